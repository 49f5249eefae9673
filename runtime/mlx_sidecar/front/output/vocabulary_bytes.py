"""The bytes of all tokens of a model, as an engine needs them to hold answers to a grammar."""

from __future__ import annotations

from array import array
from typing import NamedTuple

from ...link.forms import REASONING_BEGIN, REASONING_END
from ...link.token_table import ByteLevel, Pieces, TokenTable, fallback_byte, packed, replaced, token_bytes


class VocabularyBytes(NamedTuple):
    """``data`` has the bytes of all ids, ``ends`` the end of each (32 bits), ``special`` packed ids without text."""

    data: bytes
    ends: bytes
    special: bytes


def vocabulary_bytes(table: TokenTable) -> VocabularyBytes | None:
    """None where tokens have no bytes of their own, because only the tokenizer can decode. Takes 0.2 s for 128,000.

    An id without a token counts as special. Markers of reasoning do not, because grammars match them as text.
    """
    if table.family is None:
        return None
    data, ends, special = bytearray(), array("I"), array("I")
    for token, string in table.items():
        while len(ends) < token:
            special.append(len(ends))
            ends.append(len(data))
        if token in table.special and not matches_as_text(string):
            special.append(token)
        data += _bytes_of(string, table.family)
        ends.append(len(data))
    return VocabularyBytes(bytes(data), ends.tobytes(), packed(special))


def matches_as_text(string: str) -> bool:
    """Whether grammars match the token of ``string`` by its text, although it is flagged as special."""
    return string in (REASONING_BEGIN, REASONING_END)


def _bytes_of(string: str, family: ByteLevel | Pieces) -> bytes:
    if isinstance(family, ByteLevel):
        return token_bytes(string)
    text = replaced(string, family.replace)
    byte = fallback_byte(text) if family.byte_fallback else None
    return text.encode() if byte is None else bytes([byte])
