"""Which answer belongs to which of several requests under one id."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

Question = TypeVar("Question")
Answer = TypeVar("Answer")


class Ledger(Generic[Question, Answer]):
    """Gives each answer to one question, and no question two: a bipartite matching that grows with every answer.

    Two requests may have one id, and unreadable ones have the null id. So an answer that fits two questions is given to
    one of them, and moved if that helps a later one.
    """

    def __init__(self) -> None:
        self.asked: list[Question] = []
        self._answers: list[Answer] = []
        self._given: dict[int, int] = {}  # question → its answer, by their numbers

    @property
    def waiting(self) -> list[Question]:
        """Questions without an answer."""
        return [question for number, question in enumerate(self.asked) if number not in self._given]

    def give(self, answer: Answer, fits: Callable[[Question, Answer], bool]) -> tuple[Question, Question] | None:
        """Return the question that gets ``answer``, and the one that waits no longer; None if none is left for it."""
        number = len(self._answers)
        self._answers.append(answer)
        before = set(self._given)
        if not self._deal(number, fits, set()):
            return None
        (content,) = set(self._given) - before
        owner = next(owner for owner, given in self._given.items() if given == number)
        return self.asked[owner], self.asked[content]

    def _deal(self, answer: int, fits: Callable[[Question, Answer], bool], tried: set[int]) -> bool:
        takers = [number for number, asked in enumerate(self.asked) if fits(asked, self._answers[answer])]
        for taker in sorted(takers, key=lambda number: (number in self._given, number)):
            if taker in tried:
                continue
            tried.add(taker)
            if taker not in self._given or self._deal(self._given[taker], fits, tried):
                self._given[taker] = answer
                return True
        return False
