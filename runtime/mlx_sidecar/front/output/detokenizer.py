"""A detokenizer makes text from tokens as they come: no later token can change the text given, and nothing is lost.

For any token sequence the pieces joined equal the tokenizer's text of the whole sequence. A SentencePiece-like
tokenizer drops the space that the first word of a text carries. An answer is a text of its own; a continuation is not,
so its detokenizer is told the tokens that it continues, and keeps that space.

Held back are: a character with bytes still missing; with byte fallback (``<0x0A>``), a whole run of byte tokens,
because one bad byte at its end turns all of it into U+FFFD. U+FFFD comes out only where bytes really are invalid.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from itertools import takewhile
from typing import Protocol

from ...link.token_table import ByteLevel, Pieces, TokenTable, fallback_byte, replaced, token_bytes

# Tokens at the end of a prompt that decide how those behind them are read.
_CONTEXT_TOKENS = 16
# Tokens of a prompt after which its text has begun, whatever they are.
_BEGINNING_TOKENS = 64


class Detokenizer(Protocol):
    """Takes tokens, gives text. One for each stream; to be used from one thread at a time."""

    def push(self, token: int) -> str:
        """Take one more token. Returns the text that is now certain, often empty."""
        ...

    def push_many(self, tokens: Iterable[int]) -> str:
        """``push`` for several, joined."""
        ...

    def pending(self) -> str:
        """The text that ``finish`` would return now."""
        ...

    def finish(self) -> str:
        """There are no more tokens: returns the text held back."""
        ...


class Detokenizers:
    """Makes detokenizers for one tokenizer. They share the texts of its tokens, each worked out once."""

    def __init__(self, vocabulary: TokenTable) -> None:
        self._vocabulary = vocabulary
        self._hidden: dict[frozenset[str], frozenset[int]] = {}  # by the texts shown: none, or the markers of a format
        # By the tokens hidden.
        self._byte_tables: dict[frozenset[int], _ByteTable] = {}
        self._piece_tables: dict[frozenset[int], _PieceTable] = {}

    @cached_property
    def special_texts(self) -> Mapping[int, str]:
        """Special token → its text."""
        strings = ((token, self._vocabulary.token(token)) for token in self._vocabulary.special)
        return {token: string for token, string in strings if string}

    def hidden(self, skip_special: bool, shown: frozenset[str] = frozenset()) -> frozenset[int]:
        """The tokens that give no text although they have one: with ``skip_special`` all but those of ``shown``."""
        if not skip_special:
            return frozenset()
        if (hidden := self._hidden.get(shown)) is None:
            seen = {token for token, text in self.special_texts.items() if text in shown}
            hidden = self._hidden[shown] = self._vocabulary.special - seen
        return hidden

    def new(
        self, skip_special: bool = True, behind: Sequence[int] = (), shown: frozenset[str] = frozenset()
    ) -> Detokenizer | None:
        """A detokenizer for one stream; None for a tokenizer of neither family, which only itself can decode.

        ``skip_special`` leaves out tokens that the tokenizer flags as special (end of turn and the like), except those
        whose text is in ``shown``. Markers that are added but not special, such as ``<think>`` in many models, stay in
        the text. ``behind``: the tokens that the stream continues; the text is what they and its own tokens decode to
        together, without theirs.
        """
        hidden = self.hidden(skip_special, shown)
        match self._vocabulary.family:
            case ByteLevel():
                begun = _begun_bytes(behind, self._byte_table(self._vocabulary.special))
                return _ByteLevelDetokenizer(self._byte_table(hidden), begun)
            case Pieces() as pieces:
                prompt = _PiecesDetokenizer(self._piece_table(self._vocabulary.special), pieces)
                return prompt.followed(behind, self._piece_table(hidden))
            case None:
                return None

    def _byte_table(self, hidden: frozenset[int]) -> _ByteTable:
        if (table := self._byte_tables.get(hidden)) is None:
            table = self._byte_tables[hidden] = _ByteTable(self._vocabulary, hidden)
        return table

    def _piece_table(self, hidden: frozenset[int]) -> _PieceTable:
        if (table := self._piece_tables.get(hidden)) is None:
            table = self._piece_tables[hidden] = _PieceTable(self._vocabulary, hidden)
        return table


class _Strings:
    """Token → its string; None for a token that gives no text."""

    def __init__(self, vocabulary: TokenTable, hidden: frozenset[int]) -> None:
        self._vocabulary = vocabulary
        self._hidden = hidden

    def of(self, token: int) -> str | None:
        return None if token in self._hidden else self._vocabulary.token(token)


class _ByteTable(dict[int, tuple[bytes, str | None]]):
    """Token → its bytes, and their text if they are whole characters.

    Filled as tokens are met: the whole table of a large vocabulary would take 0.1 s.
    """

    def __init__(self, vocabulary: TokenTable, hidden: frozenset[int]) -> None:
        self._strings = _Strings(vocabulary, hidden)

    def __missing__(self, token: int) -> tuple[bytes, str | None]:
        data = token_bytes(self._strings.of(token) or "")
        try:
            text: str | None = data.decode()
        except UnicodeDecodeError:
            text = None
        self[token] = data, text
        return data, text


class _PieceTable(dict[int, str | int | None]):
    """Token → its text or its byte, filled as tokens are met. None: the token is passed over."""

    def __init__(self, vocabulary: TokenTable, hidden: frozenset[int]) -> None:
        self.strings = _Strings(vocabulary, hidden)
        family = vocabulary.family
        self._pieces = family if isinstance(family, Pieces) else Pieces(replace=())

    def __missing__(self, token: int) -> str | int | None:
        string = self.strings.of(token)
        self[token] = made = None if string is None else self.read(string, self._pieces.replace)
        return made

    def read(self, string: str, pairs: tuple[tuple[str, str], ...]) -> str | int:
        text = replaced(string, pairs)
        byte = fallback_byte(text) if self._pieces.byte_fallback else None
        return text if byte is None else byte


def _begun(data: bytes) -> bytes:
    """The first bytes of a character that ``data`` ends with."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    decoder.decode(data)
    return decoder.getstate()[0]


def _begun_bytes(tokens: Sequence[int], table: _ByteTable) -> bytes:
    return _begun(b"".join(table[token][0] for token in tokens[-_CONTEXT_TOKENS:]))


class _ByteLevelDetokenizer:
    """Each token is bytes; UTF-8 is decoded as they come."""

    def __init__(self, table: _ByteTable, begun: bytes) -> None:
        """``begun``: the first bytes of a character that the first token may go on with."""
        self._table = table
        # "replace" marks invalid bytes exactly as Rust's from_utf8_lossy does: once for each maximal beginning.
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")
        self._utf8.decode(begun)
        self._begun = begun != b""  # the decoder holds the first bytes of a character

    def push(self, token: int) -> str:
        data, text = self._table[token]
        if text is not None and not self._begun:
            return text  # nearly always, and five times as fast as the decoder
        text = self._utf8.decode(data)
        self._begun = self._utf8.getstate()[0] != b""
        return text

    def push_many(self, tokens: Iterable[int]) -> str:
        return "".join(map(self.push, tokens))

    def pending(self) -> str:
        return self._utf8.getstate()[0].decode(errors="replace")

    def finish(self) -> str:
        return self._utf8.decode(b"", final=True)


def _run_text(run: bytearray) -> str:
    try:
        return run.decode()
    except UnicodeDecodeError:
        return "\ufffd" * len(run)  # one bad byte spoils the run: that is how the tokenizers library decodes it


class _PiecesDetokenizer:
    """Each token is text or, with byte fallback, a byte."""

    def __init__(self, table: _PieceTable, pieces: Pieces) -> None:
        self._table = table
        self._first = pieces.first  # how the first token is read; None once it has come, or if it is like any other
        self._run = bytearray()  # byte tokens whose run has not ended
        self._strip, self._strip_left = pieces.strip  # a character, and how many of it may still go from the start

    def push(self, token: int) -> str:
        piece = self._table[token] if self._first is None else self._leading(token, self._first)
        if piece is None:
            return ""
        if isinstance(piece, int):
            self._run.append(piece)
            return ""
        text = self._end_run() + piece if self._run else piece
        return self._stripped(text) if self._strip_left else text

    def push_many(self, tokens: Iterable[int]) -> str:
        return "".join(map(self.push, tokens))

    def pending(self) -> str:
        text, characters = _run_text(self._run), self._strip_left
        while characters and text.startswith(self._strip):
            text, characters = text[1:], characters - 1
        return text

    def finish(self) -> str:
        return self._stripped(self._end_run())

    def followed(self, tokens: Sequence[int], table: _PieceTable) -> _PiecesDetokenizer:
        """The detokenizer that reads on with ``table`` behind ``tokens``, which may end within a character."""
        start = tokens[:_BEGINNING_TOKENS]
        self.push_many(start)
        self.finish()
        if len(start) < len(tokens):  # a text of so many tokens has begun
            self._first, self._strip_left = None, 0
        last = [self._table[token] for token in tokens[-_CONTEXT_TOKENS:]]
        run = takewhile(lambda piece: not isinstance(piece, str), reversed(last))
        self._run.extend(_begun(bytes([byte for byte in run if isinstance(byte, int)][::-1])))
        self._table = table
        return self

    def _leading(self, token: int, pairs: tuple[tuple[str, str], ...]) -> str | int | None:
        string = self._table.strings.of(token)
        if string is None:
            return None
        self._first = None
        return self._table.read(string, pairs)

    def _end_run(self) -> str:
        text = _run_text(self._run)
        self._run.clear()
        return text

    def _stripped(self, text: str) -> str:
        while self._strip_left and text.startswith(self._strip):
            text = text[1:]
            self._strip_left -= 1
        if text:
            self._strip_left = 0
        return text
