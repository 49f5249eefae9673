"""A reasoning follower finds the markers of reasoning in an answer, counts tokens, and forces the end at the budget."""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING

from ...link.reasoning import ReasoningBudget
from .spelling import EndMarker, Spelling

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

LONGEST_CHARACTER = 4  # bytes, each of which may be a token
_SPACE = b" \t\r\n"  # may precede reasoning


def others_of(budget: ReasoningBudget, spelling: Spelling, vocabulary: int) -> NDArray[np.bool_] | None:
    """Return which tokens go on ``instead`` of reasoning, behind the budget's fork: [vocabulary]; None for none."""
    if not budget.instead:
        return None
    others = spelling.beginnings(tuple(budget.instead), frozenset(budget.shown), vocabulary)
    return others if others.any() else None


class ReasoningFollower:
    """Follows one answer by the bytes of its tokens, however these cut the markers. Pure.

    Counted are the tokens behind the one that completes the begin marker and before the one in which the end marker
    begins. ``forced`` are the tokens that must come next, because the budget is spent; ``over``: no reasoning can
    follow. All depends on the tokens alone.

    ``others`` are the tokens that may come behind the fork of a budget that is spent: [vocabulary]. A token that begins
    before the fork may lead past it; then reasoning ends as soon as it has begun.
    """

    def __init__(
        self,
        budget: ReasoningBudget,
        spelling: Spelling,
        end: EndMarker,
        others: NDArray[np.bool_] | None = None,
    ) -> None:
        self.forced: list[int] = []
        self.over = False
        self._budget = budget
        self._shown = frozenset(budget.shown)
        self._spelling = spelling
        self._end = end
        self._inside = budget.thinking
        self._spent = 0  # tokens inside reasoning; those in which an end marker may have begun among them
        self._standing = b""  # the beginning of the next marker, as far as it stands
        self._before: list[int] = []  # for each byte of that, what was spent before its token
        self._others = others
        self._force()

    @property
    def tokens(self) -> int:
        """The tokens of reasoning so far, without those in which the end marker may have begun."""
        return self._before[0] if self._inside and self._standing else self._spent

    @property
    def ending(self) -> list[int]:
        """The tokens that would end reasoning here; none where that is not forced within a few tokens."""
        near = self._inside and self._spent + LONGEST_CHARACTER >= self._budget.tokens
        return self._end.behind(len(self._standing)) if near else []

    def allowed(self, tokens: list[int]) -> int:
        """Return how many of ``tokens``, in a row, are allowed; changes nothing."""
        if self.over:
            return len(tokens)
        other = copy(self)
        return next((at for at, token in enumerate(tokens) if not other.consume(token)), len(tokens))

    def consume(self, token: int) -> bool:
        """Go on behind ``token``; where another is forced, change nothing and return False."""
        if self.over:
            return True
        if not self.allows(token):
            return False
        self.forced = self.forced[1:]
        self._read(self._spelling.text(token, self._shown))
        self._force()
        return True

    def allows(self, token: int) -> bool:
        """Whether ``token`` may come next."""
        if self.forced:
            return token == self.forced[0]
        return (others := self.others) is None or bool(others[token])

    @property
    def others(self) -> NDArray[np.bool_] | None:
        """Which tokens may come next, where reasoning would begin again without budget: [vocabulary]; None: any."""
        is_spent = not self._inside and self._spent >= self._budget.tokens
        return self._others if is_spent and self._standing == self._budget.fork else None

    @property
    def _marker(self) -> bytes:
        """The marker that comes next."""
        return self._budget.end if self._inside else self._budget.begin

    @property
    def _fixed(self) -> bool:
        """Whether reasoning begins here or not at all."""
        return not (self._inside or self._budget.anywhere)

    def _read(self, text: bytes) -> None:
        before = self._spent
        self._spent += self._inside
        if not (self._standing or self._fixed or self._marker[:1] in text):
            return  # as most tokens, it has no byte of the marker
        for at in range(len(text)):
            if self.over:
                break
            self._read_byte(text[at : at + 1], before)

    def _read_byte(self, byte: bytes, before: int) -> None:
        fixed, marker = self._fixed, self._marker
        if fixed and not self._standing and byte in _SPACE:
            return
        standing = self._standing + byte
        start = 0 if fixed else next(at for at in range(len(standing) + 1) if marker.startswith(standing[at:]))
        self._standing, self._before = standing[start:], [*self._before, before][start:]
        if self._standing == marker:
            self._pass_marker()
        elif fixed and not marker.startswith(standing):
            self.over = True

    def _pass_marker(self) -> None:
        if self._inside:
            self._spent = self._before[0]
            self.over = not self._budget.anywhere
        self._inside = not self._inside
        self._standing, self._before = b"", []

    def _force(self) -> None:
        if self._inside and self._spent >= self._budget.tokens and not self.forced:
            self.forced = self._end.behind(len(self._standing))
