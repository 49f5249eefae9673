"""A matcher follows one answer in its grammar: the constraint of a sequence."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import takewhile
from sys import byteorder
from typing import TYPE_CHECKING

from .library_matcher import GrammarError, LibraryMatcher
from .tokenizer import Tokenizer

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Matcher:
    """Implements ``Constraint`` over a model's ``vocabulary`` of token ids, of which the tokenizer may know fewer.

    Where the grammar leaves no choice, the tokens that it forces are the only ones that are allowed, although others
    may spell the same text. They are asked for after each token, unless some of them are still to be consumed, so what
    is forced depends on the tokens alone. After a failure nothing is allowed any more, and ``failure`` says why.
    """

    free = lifted = False

    def __init__(self, state: LibraryMatcher, known: int, vocabulary: int, end_tokens: frozenset[int]) -> None:
        self.complete = False
        self.ended = False
        self._state = state
        self._known = known  # ids that both the model and the tokenizer have
        self._vocabulary = vocabulary
        self._end_tokens = end_tokens
        self._forced: list[int] = []  # the first may be a token that the model has not: then there is no way on

    @classmethod
    def compiled(cls, tokenizer: Tokenizer, grammar: str, vocabulary: int, end_tokens: Iterable[int]) -> Matcher:
        """Compile ``grammar``, on a thread with ``COMPILER_STACK_BYTES``. Raises ``GrammarError``."""
        state = LibraryMatcher.compiled(tokenizer, grammar)
        matcher = cls(state, min(vocabulary, tokenizer.size), vocabulary, frozenset(end_tokens))
        matcher._look()
        if not matcher.ended and not matcher.mask().any():
            raise GrammarError(matcher.failure or "it allows no answer")
        return matcher

    @property
    def failure(self) -> str:
        return self._state.failure

    @property
    def forced(self) -> list[int]:
        if self._forced and max(self._forced) >= self._known:
            return [*takewhile(lambda token: token < self._known, self._forced)]
        return self._forced

    def consume(self, token: int) -> bool:
        if self._ends_with(token):
            return True
        if not self._consumed(token):
            return False
        self._state.earn()
        return True

    def allowed(self, tokens: list[int]) -> int:
        if self.forced[: len(tokens)] == tokens:
            return len(tokens)
        copy = self.copy()
        refused = (at for at, token in enumerate(tokens) if not (copy._ends_with(token) or copy._consumed(token)))
        count = next(refused, len(tokens))
        if copy.failure:  # they share the time that may be spent
            self._state.failure = copy.failure
            self._look_for_failure()
        return count

    def mask(self) -> NDArray[np.bool_]:
        import numpy as np

        mask = np.zeros(self._vocabulary, np.bool_)
        if self._forced:
            mask[self.forced[:1]] = True
        elif not (self.ended or self.failure):
            mask[: self._known] = self._state.mask(self._known)
            self._look_for_failure()
        if self.complete:
            mask[[token for token in self._end_tokens if token < self._vocabulary]] = True
        return mask

    def replay(self, tokens: Iterable[int]) -> bool:
        """Consume ``tokens``, the answer so far; return whether all were allowed."""
        return all(self.consume(token) for token in tokens)

    def _ends_with(self, token: int) -> bool:
        return self.complete and token in self._end_tokens

    def _consumed(self, token: int) -> bool:
        """Go on behind a token with text, if it is allowed."""
        if not 0 <= token < self._known or self.ended or self.failure:
            return False
        if self._forced and token != self._forced[0]:
            return False
        word = token.to_bytes(4, byteorder)
        if not self._forced and not self._state.validates(word):
            self._look_for_failure()
            return False
        self._state.consume(word)
        self._forced = self._forced[1:]
        self._look()
        return not self.failure

    def _look(self) -> None:
        """Take in what the library says of the state that is reached."""
        if not self._forced and not self.failure:
            self.ended = self._state.stopped
            self._forced = [] if self.ended else self._state.forced()
            self.complete = self._state.accepting
        self._look_for_failure()

    def _look_for_failure(self) -> None:
        if self.failure:
            self._forced = []
            self.complete = self.ended = False

    def copy(self) -> Matcher:
        """Return another matcher in the same state."""
        copy = Matcher(self._state.copy(), self._known, self._vocabulary, self._end_tokens)
        copy.complete, copy.ended, copy._forced = self.complete, self.ended, self._forced
        return copy
