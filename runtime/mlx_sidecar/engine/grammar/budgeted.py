"""A budgeted answer ends its reasoning at the budget, and is held to a grammar besides, if there is one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .matcher import Matcher
from .reasoning import ReasoningFollower

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Budgeted:
    """Implements ``Constraint`` over a model's ``vocabulary`` of token ids: allowed is what both parts allow."""

    def __init__(self, follower: ReasoningFollower, inner: Matcher | None, vocabulary: int) -> None:
        self._follower = follower
        self._inner = inner
        self._vocabulary = vocabulary
        self._whole: Matcher | None = None  # the grammar behind the last whole character
        self._forced: list[int] = []
        self._settle()

    @property
    def forced(self) -> list[int]:
        return self._forced

    @property
    def ended(self) -> bool:
        return self._inner is not None and self._inner.ended

    @property
    def complete(self) -> bool:
        return not self._is_bound and (self._inner is None or self._inner.complete)

    @property
    def free(self) -> bool:
        return self._inner is None and not self._is_bound

    @property
    def lifted(self) -> bool:
        return self.free and self._follower.over

    def consume(self, token: int) -> bool:
        if not (0 <= token < self._vocabulary and self._follower.allows(token)):
            return False
        if self._inner is not None and not self._inner.consume(token):
            return False
        self._follower.consume(token)
        self._settle()
        return True

    def allowed(self, tokens: list[int]) -> int:
        count = self._follower.allowed(tokens)
        return count if self._inner is None else self._inner.allowed(tokens[:count])

    def mask(self) -> NDArray[np.bool_]:
        import numpy as np

        forced, others = self._follower.forced[:1], self._follower.others
        mask = np.full(self._vocabulary, not forced) if self._inner is None else self._inner.mask()
        if forced:
            allowed = self._inner is None or mask[forced[0]]
            mask[:] = False
            mask[forced[0]] = allowed
        elif others is not None:
            mask &= others
        return mask

    @property
    def _is_bound(self) -> bool:
        """Whether the budget says something about the next token."""
        return bool(self._follower.forced) or self._follower.others is not None

    def _settle(self) -> None:
        """Find out what is forced: by the budget, or by the grammar as far as the budget allows that."""
        if self._inner is not None and (ending := self._follower.ending):
            self._leave_out_character(self._inner, ending)
        self._forced = self._follower.forced
        if not self._forced and self._inner is not None:
            forced = self._inner.forced
            self._forced = forced[: self._follower.allowed(forced)]

    def _leave_out_character(self, inner: Matcher, ending: list[int]) -> None:
        """Let the grammar go back behind a whole character, where the budget ends within another one.

        Grammars allow no text to follow a part of a character.
        """
        if inner.allowed(ending) == len(ending):
            self._whole = inner.copy()
        elif self._follower.forced and self._whole is not None:
            self._inner = self._whole
