"""The library's matcher: a compiled grammar, and the state of one answer in it."""

from __future__ import annotations

import ctypes
import logging
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from time import thread_time
from typing import TYPE_CHECKING

from ...link.grammar_limits import COST_LIMITS, LONGEST_GRAMMAR
from .library import Limits, MatcherInit, library
from .tokenizer import Tokenizer

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# Rules may refer to one another as deep as they fill a grammar, and each takes 4 KiB.
COMPILER_STACK_BYTES = 1 << 28
LONGEST_ERROR = 500  # bytes; some errors have the whole grammar in them

# Forced tokens that are asked for at once; a grammar may force more, which are asked for when these are consumed.
FORCED_AT_ONCE = 64

LIMITS = Limits(**COST_LIMITS, precompute_large_lexemes=True, verbose_errors=False)
# Seconds of a processor that following an answer may take, at first and for each token, because the step loop waits for
# them. JSON takes a hundredth; an ambiguous grammar takes longer with each token.
ALLOWANCE_S = 1.0
ALLOWANCE_OF_TOKEN_S = 0.005


log = logging.getLogger(__name__)


class GrammarError(Exception):
    """A grammar cannot be compiled, for the reason in the message."""


@dataclass
class _Purse:
    """Seconds that may still be spent on an answer."""

    spare_s: float


class LibraryMatcher:
    """Token ids go in as the bytes of 32-bit numbers. Once a call has failed, ``failure`` says why, and none works."""

    def __init__(self, tokenizer: Tokenizer, pointer: int, purse: _Purse) -> None:
        self.failure = ""
        self._tokenizer = tokenizer  # not to be freed before
        self._library = library()
        self._pointer = pointer
        self._purse = purse
        weakref.finalize(self, self._library.llg_free_matcher, pointer).atexit = False

    @classmethod
    def compiled(cls, tokenizer: Tokenizer, grammar: str) -> LibraryMatcher:
        """Compile ``grammar``, on a thread with ``COMPILER_STACK_BYTES``. Raises ``GrammarError``."""
        if len(grammar) > LONGEST_GRAMMAR:
            raise GrammarError(f"it has {len(grammar)} characters; {LONGEST_GRAMMAR} are the most")
        if "\0" in grammar:
            raise GrammarError("it has a null character")
        init = MatcherInit(tokenizer=tokenizer.pointer, limits=LIMITS)
        text = grammar.encode(errors="replace")
        pointer = library().llg_new_matcher(ctypes.byref(init), b"llguidance", text)
        matcher = cls(tokenizer, pointer, _Purse(ALLOWANCE_S))
        matcher.consume(b"")
        if matcher.failure:
            raise GrammarError(matcher.failure)
        return matcher

    def copy(self) -> LibraryMatcher:
        """Return another matcher in the same state, whose time is of the same purse."""
        copy = LibraryMatcher(self._tokenizer, self._library.llg_clone_matcher(self._pointer), self._purse)
        copy.failure = self.failure
        return copy

    def earn(self) -> None:
        """Be granted the time for one more token of the answer."""
        self._purse.spare_s += ALLOWANCE_OF_TOKEN_S

    @property
    def stopped(self) -> bool:
        """Whether nothing may follow but the end, or a call has failed."""
        return bool(self._library.llg_matcher_is_stopped(self._pointer))

    @property
    def accepting(self) -> bool:
        """Whether the answer may end here."""
        return bool(self._library.llg_matcher_is_accepting(self._pointer))

    def validates(self, token: bytes) -> bool:
        """Whether ``token`` may come next."""
        return self._call(self._library.llg_matcher_validate_tokens, token, 1) == 1

    def consume(self, tokens: bytes) -> None:
        """Go on behind ``tokens``, which must be allowed, or fail."""
        self._call(self._library.llg_matcher_consume_tokens, tokens, len(tokens) // 4)

    def forced(self) -> list[int]:
        """Return the first tokens that must come next."""
        room = (ctypes.c_uint32 * FORCED_AT_ONCE)()
        return room[: max(0, self._call(self._library.llg_matcher_compute_ff_tokens, room, FORCED_AT_ONCE))]

    def mask(self, count: int) -> NDArray[np.bool_]:
        """Return which of the first ``count`` tokens may come next: [count]."""
        import numpy as np

        bits = np.zeros(self._library.llg_matcher_get_mask_byte_size(self._pointer), np.uint8)
        self._call(self._library.llg_matcher_compute_mask_into, bits.ctypes.data, len(bits))
        if self.failure:
            bits[:] = 0
        return np.unpackbits(bits, count=count, bitorder="little").view(np.bool_)

    def _call(self, function: Callable[..., int], *arguments: object) -> int:
        """Return the result of a call, and note where it failed: some calls tell that by the matcher's error alone."""
        began_s = thread_time()  # which a machine that others use too does not add to
        result = function(self._pointer, *arguments)
        self._purse.spare_s -= thread_time() - began_s
        if not self.failure:
            if (error := self._library.llg_matcher_get_error(self._pointer)) is not None:
                self.failure = error[:LONGEST_ERROR].decode(errors="replace").partition("\n<")[0].strip()
            elif self._purse.spare_s < 0:
                self.failure = "following it takes too long, because it is ambiguous or forces too much text"
            if self.failure:
                log.info("a grammar is not followed any further: %s", self.failure)
        return result
