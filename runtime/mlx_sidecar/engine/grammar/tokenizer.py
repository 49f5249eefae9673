"""The library's tokenizer of one model, over which grammars are compiled and answers followed."""

from __future__ import annotations

import ctypes
import weakref
from array import array
from typing import TYPE_CHECKING

from ...link.token_table import packed
from .byte_pairs import BytePairs
from .library import TokenizeFn, TokenizerInit, library
from .token_bytes import TokenBytes

if TYPE_CHECKING:
    from ctypes import _Pointer

# Resident memory of tables of 32,000 to 262,145 tokens: 595 to 648 bytes a token.
BYTES_PER_TOKEN = 650


class Tokenizer:
    """Made in seconds for a large vocabulary, without holding the interpreter; used by several threads afterwards.

    ``size`` tokens are the model's. Raises ``ValueError`` if the library does not take them.
    """

    def __init__(self, tokens: TokenBytes) -> None:
        self.size = tokens.size
        self._pairs = BytePairs(tokens.ids)
        self._callback = TokenizeFn(self._tokenize)  # the library calls it for as long as a matcher lives
        self.pointer = _built(tokens, self._callback)
        weakref.finalize(self, library().llg_free_tokenizer, self.pointer).atexit = False

    @property
    def held_bytes(self) -> int:
        """About the bytes that it holds."""
        return self.size * BYTES_PER_TOKEN

    def _tokenize(
        self,
        _: int | None,
        text: _Pointer[ctypes.c_ubyte],
        length: int,
        out: _Pointer[ctypes.c_uint32],
        room: int,
    ) -> int:
        """Write the tokens of ``text``, as far as there is room, and return how many there are."""
        tokens = self._pairs.tokens(ctypes.string_at(text, length))
        count = min(len(tokens), room)
        ctypes.memmove(out, packed(tokens[:count]), 4 * count)
        return len(tokens)


def _built(tokens: TokenBytes, callback: object) -> int:
    spelled = tokens.spelled()
    lengths = array("I", map(len, spelled))
    init = TokenizerInit(
        struct_size=ctypes.sizeof(TokenizerInit),
        vocab_size=len(spelled),
        tok_eos=tokens.end,
        token_lens=lengths.buffer_info()[0],
        token_bytes=b"".join(spelled),
        tokenize_fn=callback,
    )
    told = ctypes.create_string_buffer(1024)
    pointer: int | None = library().llg_new_tokenizer_v2(ctypes.byref(init), told, len(told))
    if pointer is None:
        raise ValueError(f"llguidance cannot use this vocabulary: {told.value.decode(errors='replace')}")
    return pointer
