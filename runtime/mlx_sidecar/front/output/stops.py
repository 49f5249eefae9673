"""A stop matcher finds stop strings across deltas: which text may be sent, and where it ends.

The rule: the stop string that is *completed first* wins, and of two completed by the same character the longer one.
It needs no look-ahead, so a generation ends with the token that completes a stop string, and the outcome does not
depend on how the text was cut into deltas.

A stop string with another inside it (other than at its end) can never be completed first, so it is dropped at the
start. Among those that remain no two matches overlap in a way that leaves a choice, which keeps the automaton plain:
a state is a beginning of a stop string, and it ends the text exactly when it is a whole one.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Sequence

from mlx_sidecar_protocol.errors import InvalidParams


def _first_to_complete(stops: Sequence[str]) -> list[str]:
    """``stops`` without duplicates and without those that another always completes before."""
    distinct = list(dict.fromkeys(stops))
    return [stop for stop in distinct if not any(other in stop[:-1] for other in distinct if other != stop)]


class Automaton:
    """Aho-Corasick over the stop strings. State 0 is "nothing begun"; building is linear in their length."""

    def __init__(self, stops: Sequence[str]) -> None:
        self.origin: list[tuple[str, int]] = [("", 0)]  # state → a stop string and how much of it has begun
        self.whole: list[bool] = [False]
        self.step: list[dict[str, int]] = [{}]
        self.shorter: list[int] = [0]  # state → the longest other beginning that its text ends with
        for stop in stops:
            self._add(stop)
        self._link()
        # Most text begins no stop string; this finds where one may begin at the speed of C.
        self.opening = re.compile("[" + "".join(re.escape(first) for first in self.step[0]) + "]")

    def _add(self, stop: str) -> None:
        state = 0
        for length, character in enumerate(stop, 1):
            if character not in self.step[state]:
                self.step[state][character] = len(self.step)
                self.origin.append((stop, length))
                self.whole.append(False)
                self.step.append({})
                self.shorter.append(0)
            state = self.step[state][character]
        self.whole[state] = True

    def _link(self) -> None:
        queue = deque(self.step[0].values())
        while queue:
            state = queue.popleft()
            for character, following in self.step[state].items():
                self.shorter[following] = self.next(self.shorter[state], character)
                queue.append(following)

    def ends(self) -> list[tuple[str, ...]]:
        """State → the stop strings that end there, longest first."""
        ends: list[tuple[str, ...]] = [()] * len(self.step)
        for state in sorted(range(1, len(self.step)), key=lambda state: self.origin[state][1]):
            own = (self.begun(state),) if self.whole[state] else ()
            ends[state] = own + ends[self.shorter[state]]
        return ends

    def begun(self, state: int) -> str:
        """The beginning of a stop string that ``state`` stands for."""
        stop, length = self.origin[state]
        return stop[:length]

    def next(self, state: int, character: str) -> int:
        """The state after ``character``: the longest beginning that the text now ends with."""
        while (following := self.step[state].get(character)) is None:
            if not state:
                return 0
            state = self.shorter[state]
        return following

    def run(self, state: int, text: str) -> tuple[int, int]:
        """Read ``text`` from ``state``, up to the end of the first stop string. Returns (state, characters read)."""
        at = 0
        while at < len(text):
            if not state:
                begins = self.opening.search(text, at)
                if begins is None:
                    return 0, len(text)
                at = begins.start()
            state = self.next(state, text[at])
            at += 1
            if self.whole[state]:
                break
        return state, at


class StopMatcher:
    """Finds stop strings in text that comes in pieces; holds back a possible beginning of one.

    Every character is read once, whatever the stop strings: time is linear in the text. The state is a function of the
    text so far, so a journal rebuilds it by pushing the text again.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        """Raises InvalidParams naming ``stop`` for an empty string. No stop strings: everything passes."""
        if "" in stops:
            raise InvalidParams.field("stop", "a stop string may not be empty")
        self._automaton = Automaton(_first_to_complete(stops)) if stops else None
        self._state = 0
        self._matched: str | None = None

    @property
    def looks(self) -> bool:
        """Whether there are stop strings."""
        return self._automaton is not None

    @property
    def matched(self) -> str | None:
        """The stop string that ended the text."""
        return self._matched

    @property
    def held(self) -> str:
        """Text pushed but not given back, because a stop string may begin with it."""
        return self._automaton.begun(self._state) if self._automaton and self._matched is None else ""

    def push(self, text: str) -> tuple[str, str | None]:
        """Take more text. Returns (text that is safe to send, the stop string that ended it or None).

        After a match nothing comes any more: ``("", match)``.
        """
        if self._automaton is None:
            return text, None
        if self._matched is not None:
            return "", self._matched
        if not self._state and self._automaton.opening.search(text) is None:
            return text, None  # as `run` would find, for most deltas at a third of the cost
        held = self.held
        self._state, read = self._automaton.run(self._state, text)
        begun = self._automaton.begun(self._state)
        safe = (held + text[:read])[: len(held) + read - len(begun)]
        if self._automaton.whole[self._state]:
            self._matched = begun
        return safe, self._matched

    def finish(self) -> str:
        """The text has ended: gives back the text held; empty after a match."""
        held = self.held
        self._state = 0
        return held
