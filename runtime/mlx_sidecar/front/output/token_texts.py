"""Token texts are the texts of single tokens, for their log-probabilities."""

from __future__ import annotations

from ...link.token_table import ByteLevel, Pieces, TokenTable, fallback_byte, replaced, token_bytes


class TokenTexts(dict[int, str]):
    """Token → its text, special tokens and the space that a word begins with included; "" for one without any.

    Bytes that are not whole characters are U+FFFD here, so joined texts equal the text of the joined tokens only
    where every token is whole characters. Filled as tokens are met; safe to use from several threads.
    """

    # Two threads may work out the same entry at once; both store the same.

    def __init__(self, vocabulary: TokenTable) -> None:
        self._vocabulary = vocabulary

    def __missing__(self, token: int) -> str:
        string = self._vocabulary.token(token)
        self[token] = text = "" if string is None else self._read(token, string)
        return text

    def _read(self, token: int, string: str) -> str:
        match self._vocabulary.family:
            case ByteLevel():
                return token_bytes(string).decode(errors="replace")
            case Pieces(replace=pairs, byte_fallback=byte_fallback):
                text = replaced(string, pairs)
                byte = fallback_byte(text) if byte_fallback else None
                return text if byte is None else bytes([byte]).decode(errors="replace")
            case None:
                return self._vocabulary.text(token)
