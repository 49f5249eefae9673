"""One interface to tokenizers, and the tokenizers of the tokenizers library behind it."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from mlx_sidecar.link.token_table import ByteLevel, Pieces, Strings, TokenTable, packed
from mlx_sidecar.text.controls import Controls, ControlTokens
from mlx_sidecar.text.decoding import family
from mlx_sidecar_protocol.errors import ModelLoadFailed

if TYPE_CHECKING:
    from tokenizers import Tokenizer


class Tokens(Protocol):
    """A tokenizer, whatever library it is of."""

    @property
    def size(self) -> int:
        """Number of token ids, added ones included."""
        ...

    @property
    def ids(self) -> Sequence[int]:
        """All token ids, in rising order."""
        ...

    @property
    def special(self) -> frozenset[int]:
        """Tokens flagged as special."""
        ...

    @property
    def family(self) -> ByteLevel | Pieces | None:
        """How it makes text of tokens; None: only ``decode`` knows."""
        ...

    def encode(self, text: str, add_special: bool) -> list[int]: ...

    def decode(self, tokens: Sequence[int], skip_special: bool) -> str: ...

    def token(self, token: int) -> str | None:
        """The vocabulary's own string for a token id; None if it stands for nothing."""
        ...

    def token_id(self, text: str) -> int | None:
        """The reverse."""
        ...


class Encoder(Tokens, Protocol):
    """A tokenizer that encodes prompts and chats."""

    @property
    def controls(self) -> ControlTokens | None:
        """Its control tokens; None if only the tokenizer itself can tell."""
        ...


class FastTokens:
    """A tokenizer of the tokenizers library."""

    def __init__(self, tokenizer: Tokenizer, split_special: bool = False) -> None:
        # We encode one text at a time, which gains nothing from a pool with a thread for each core.
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        # A prompt is neither cut nor filled up, whatever the file was saved with.
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
        # "Fast" leaves out offsets and strings, which for a megabyte take a tenth of a second to free.
        return self._tokenizer.encode_batch_fast([text], add_special_tokens=add_special)[0].ids

    def decode(self, tokens: Sequence[int], skip_special: bool) -> str:
        return self._tokenizer.decode(tokens, skip_special_tokens=skip_special)

    def token(self, token: int) -> str | None:
        return self._tokenizer.id_to_token(token)

    def token_id(self, text: str) -> int | None:
        return self._tokenizer.token_to_id(text)


def _description(tokenizer: Tokenizer) -> dict[str, Any] | None:
    """The decoder as tokenizer.json describes it."""
    decoder = tokenizer.decoder
    return None if decoder is None else json.loads(decoder.__getstate__())


def read_tokenizer(file: Path, name: str) -> Tokenizer:
    """Raises ModelLoadFailed if ``file`` is no tokenizer.json that the library understands."""
    from tokenizers import Tokenizer

    try:
        return Tokenizer.from_file(str(file))
    except Exception as broken:  # the library raises bare Exception for all that can be wrong with it
        raise ModelLoadFailed(name, because=f"tokenizer.json cannot be read: {broken}") from broken


def token_table(tokens: Tokens) -> TokenTable:
    """All of a tokenizer that other processes need to make text of tokens."""
    known = [(token, string) for token in tokens.ids if (string := tokens.token(token)) is not None]
    texts = None if tokens.family is not None else Strings.of(tokens.decode([token], False) for token, _ in known)
    strings = Strings.of(string for _, string in known)
    return TokenTable(
        packed(token for token, _ in known), strings, packed(sorted(tokens.special)), tokens.family, texts
    )
