"""The spelling of a model's tokens: the bytes of each, and the tokens that spell a marker."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from ...link.messages import Vocabulary
from ...link.token_table import unpacked
from .byte_pairs import BytePairs
from .token_bytes import TokenBytes, token_ends

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class EndMarker:
    """The tokens of an end marker: one that is the whole marker, or those that spell it from each of its bytes on."""

    whole: int | None
    spelled: tuple[list[int], ...] = ()

    def behind(self, standing: int) -> list[int]:
        """Return the tokens that complete the marker, of which ``standing`` bytes are there.

        A marker that is a token of its own is never completed from parts: they stand there by chance.
        """
        return self.spelled[standing] if self.whole is None else [self.whole]


class Spelling:
    """Cuts the bytes of tokens out of ``vocabulary`` where they are asked for. Several threads may use it."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._markers: dict[tuple[bytes, frozenset[int]], EndMarker] = {}
        self._beginnings: dict[tuple[tuple[bytes, ...], frozenset[int]], NDArray[np.bool_]] = {}

    def text(self, token: int, shown: frozenset[int]) -> bytes:
        """Return the bytes of ``token``; none of a special token that is not ``shown``, nor of an unknown one."""
        if not 0 <= token < len(self._ends) or (token in self._special and token not in shown):
            return b""
        return self._vocabulary.data[self._start(token) : self._ends[token]]

    def end_marker(self, marker: bytes, shown: frozenset[int], vocabulary: int) -> EndMarker:
        """Return the tokens of ``marker`` for a model that has ``vocabulary`` tokens.

        Raises ``ValueError`` if it has none that spell it, or the vocabulary's parts do not fit together.
        """
        known = self._markers.get((marker, shown))
        if known is None:
            known = self._markers[marker, shown] = self._end_marker(marker, shown, vocabulary)
        return known

    def beginnings(self, texts: tuple[bytes, ...], shown: frozenset[int], vocabulary: int) -> NDArray[np.bool_]:
        """Return which tokens begin one of ``texts``, as a part of it or with all of it: [vocabulary].

        Raises ``ValueError`` if the vocabulary's parts do not fit together.
        """
        import numpy as np

        known = self._beginnings.get((texts, shown))
        if known is None:
            tokens = enumerate(TokenBytes.of(self._vocabulary).tokens[:vocabulary])
            first = {text[:1] for text in texts}
            chosen = [id_ for id_, token in tokens if token[:1] in first and self._begins(id_, shown, texts)]
            known = self._beginnings[texts, shown] = np.isin(np.arange(vocabulary), chosen)
        return known

    def _begins(self, token: int, shown: frozenset[int], texts: tuple[bytes, ...]) -> bool:
        text = self.text(token, shown)
        return bool(text) and (text.startswith(texts) or any(whole.startswith(text) for whole in texts))

    def _end_marker(self, marker: bytes, shown: frozenset[int], vocabulary: int) -> EndMarker:
        whole = (token for token in self._tokens_of(marker) if token < vocabulary and self.text(token, shown))
        if (last := max(whole, default=None)) is not None:  # tokens that were added have the highest ids
            return EndMarker(last)
        pairs = BytePairs(TokenBytes.of(self._vocabulary).ids)
        spelled = tuple(pairs.tokens(marker[at:]) for at in range(len(marker)))
        if max(map(max, spelled)) >= min(vocabulary, len(self._ends)):
            raise ValueError(f"no tokens spell the end of reasoning, {marker.decode(errors='replace')!r}")
        return EndMarker(None, spelled)

    def _tokens_of(self, text: bytes) -> Iterator[int]:
        """Yield the tokens whose bytes are ``text``."""
        data = self._vocabulary.data
        begin = data.find(text)
        while begin >= 0:
            token = bisect_right(self._ends, begin)
            if (self._start(token), self._ends[token]) == (begin, begin + len(text)):
                yield token
            begin = data.find(text, begin + 1)

    def _start(self, token: int) -> int:
        return self._ends[token - 1] if token else 0

    @cached_property
    def _ends(self) -> memoryview:
        return memoryview(token_ends(self._vocabulary).tobytes()).cast("I")

    @cached_property
    def _special(self) -> frozenset[int]:
        return frozenset(unpacked(self._vocabulary.special))
