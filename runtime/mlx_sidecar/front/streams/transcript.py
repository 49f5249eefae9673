"""What a stream has produced: text and tokens, stored compactly, readable by another thread while it grows."""

from __future__ import annotations

from array import array

CHUNK = 4096  # characters; bounds both the cost of an append and the size of a delta


class Transcript:
    """Grows at the end only. One thread appends; others read ranges below ``published``.

    Memory is the text plus eight bytes a token: a host that stops reading costs that and nothing else.
    """

    def __init__(self) -> None:
        self._chunks: list[str] = [""]  # all but the last hold exactly CHUNK characters
        self._tokens = array("I")
        self._ends = array("I")  # characters of text once the token had been taken in
        # (characters, tokens), replaced as one object: a reader never sees text without its tokens.
        self.published: tuple[int, int] = (0, 0)

    def append(self, text: str, tokens: list[int]) -> None:
        """Add ``text`` and the tokens that completed it. Either may be empty."""
        characters = self.published[0] + len(text)
        while text:
            room = CHUNK - len(self._chunks[-1])
            self._chunks[-1] += text[:room]
            text = text[room:]
            if len(self._chunks[-1]) == CHUNK:
                self._chunks.append("")
        self._tokens.extend(tokens)
        self._ends.extend([characters] * len(tokens))
        self.published = (characters, len(self._tokens))

    def read(self, character: int, token: int, limit: int = CHUNK) -> tuple[str, list[int]]:
        """Text from ``character`` and tokens from ``token`` on: all that is published, or the next few thousand.

        The tokens are those whose text ends within the returned text, ``limit`` at most: then the text ends with them.
        """
        characters, tokens = self.published
        chunk, skip = divmod(character, CHUNK)
        text = self._chunks[chunk][skip:][: characters - character]
        end = character + len(text)
        stop = token
        while stop < tokens and stop - token < limit and (end == characters or self._ends[stop] <= end):
            stop += 1
        if stop < tokens and stop - token == limit:
            text = text[: self._ends[stop - 1] - character]
        return text, self._tokens[token:stop].tolist()

    @property
    def text(self) -> str:
        return "".join(self._chunks)

    @property
    def tokens(self) -> list[int]:
        return self._tokens.tolist()
