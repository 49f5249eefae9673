"""The interface to tokenizers of any library, and its implementation for the tokenizers library."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from mlx_sidecar_protocol.errors import ModelLoadFailed

from ..link.token_table import ByteLevel, Pieces, Strings, TokenTable, packed
from .controls import Controls, ControlTokens
from .decoding import family

if TYPE_CHECKING:
    from tokenizers import Tokenizer


class Tokens(Protocol):
    """A tokenizer of any library."""

    @property
    def size(self) -> int:
        """The number of token ids, added ones included."""
        ...

    @property
    def ids(self) -> Sequence[int]:
        """All token ids, in rising order."""
        ...

    @property
    def special(self) -> frozenset[int]:
        """Token ids flagged as special."""
        ...

    @property
    def family(self) -> ByteLevel | Pieces | None:
        """The family of its decoding; None if only ``decode`` can tell."""
        ...

    def encode(self, text: str, add_special: bool) -> list[int]: ...

    def decode(self, tokens: Sequence[int], skip_special: bool) -> str: ...

    def token(self, token: int) -> str | None:
        """The vocabulary's own string for a token id; None if the id stands for nothing."""
        ...

    def token_id(self, text: str) -> int | None:
        """The token id of a vocabulary's own string; None if there is none."""
        ...


class Encoder(Tokens, Protocol):
    """A tokenizer that encodes prompts and chats."""

    @property
    def controls(self) -> ControlTokens | None:
        """The control tokens; None if the library does not show them."""
        ...

    def pair(self, first: str, second: str) -> tuple[list[int], list[int]] | None:
        """The tokens of two texts with special tokens around them, and the type of each; None if it makes no pairs."""
        ...


class FastTokens:
    """A tokenizer of the tokenizers library."""

    def __init__(self, tokenizer: Tokenizer, split_special: bool = False) -> None:
        # One text at a time gains nothing from the library's thread pool.
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        # The file may have been saved with truncation or padding, which prompts must not get.
        tokenizer.no_truncation()
        tokenizer.no_padding()
        tokenizer.encode_special_tokens = split_special
        self._tokenizer = tokenizer
        self.size = tokenizer.get_vocab_size()
        added = tokenizer.get_added_tokens_decoder()
        self.special = frozenset(token for token, description in added.items() if description.special)
        self.family = family(_description(tokenizer))
        self._controls = Controls(tokenizer)

    @property
    def controls(self) -> ControlTokens:
        return self._controls

    @property
    def ids(self) -> Sequence[int]:
        return sorted(self._tokenizer.get_vocab(with_added_tokens=True).values())

    def encode(self, text: str, add_special: bool) -> list[int]:
        # "Fast" leaves out offsets and strings, which for 1 MB of text take 0.1 s to free.
        return self._tokenizer.encode_batch_fast([text], add_special_tokens=add_special)[0].ids

    def pair(self, first: str, second: str) -> tuple[list[int], list[int]] | None:
        encoding = self._tokenizer.encode(first, second)
        return encoding.ids, encoding.type_ids

    def decode(self, tokens: Sequence[int], skip_special: bool) -> str:
        return self._tokenizer.decode(tokens, skip_special_tokens=skip_special)

    def token(self, token: int) -> str | None:
        return self._tokenizer.id_to_token(token)

    def token_id(self, text: str) -> int | None:
        return self._tokenizer.token_to_id(text)


def _description(tokenizer: Tokenizer) -> dict[str, Any] | None:
    """The decoder's description as in tokenizer.json."""
    decoder = tokenizer.decoder
    return None if decoder is None else json.loads(decoder.__getstate__())


def read_tokenizer(file: Path, name: str) -> Tokenizer:
    """Read ``file``. Raises ModelLoadFailed if it is no tokenizer.json that the library understands."""
    from tokenizers import Tokenizer

    try:
        return Tokenizer.from_file(str(file))
    except Exception as broken:  # the library raises bare Exception for any fault of the file
        raise ModelLoadFailed(name, because=f"tokenizer.json cannot be read: {broken}") from broken


def token_table(tokens: Tokens) -> TokenTable:
    """The part of a tokenizer with which other processes turn tokens into text."""
    known = [(token, string) for token in tokens.ids if (string := tokens.token(token)) is not None]
    texts = None if tokens.family is not None else Strings.of(tokens.decode([token], False) for token, _ in known)
    strings = Strings.of(string for _, string in known)
    return TokenTable(
        packed(token for token, _ in known), strings, packed(sorted(tokens.special)), tokens.family, texts
    )
