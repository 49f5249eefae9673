"""The bytes of a model's tokens, as answers are matched by them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from ...link.messages import Vocabulary
from ...link.token_table import unpacked

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# A token without text begins with a byte that is nowhere in UTF-8: no grammar over text can match it. The library knows
# such a token by the name behind that byte.
_TEXTLESS = b"\xff"


def token_ends(vocabulary: Vocabulary) -> NDArray[np.uint32]:
    """Return where the bytes of each token end: [tokens]. Raises ``ValueError`` if its parts do not fit together."""
    import numpy as np

    ends = np.frombuffer(vocabulary.ends, np.uint32)
    if not len(ends) or ends[-1] != len(vocabulary.data) or (ends[1:] < ends[:-1]).any():
        raise ValueError("the ends of the tokens do not fit their bytes")
    return ends


@dataclass(frozen=True)
class TokenBytes:
    """The bytes of each token of a model, by id, and the ids of those that stand for no text."""

    tokens: list[bytes]
    textless: frozenset[int]

    @classmethod
    def of(cls, vocabulary: Vocabulary) -> TokenBytes:
        """Return the tokens of ``vocabulary``. Raises ``ValueError`` if its parts do not fit together."""
        stops = token_ends(vocabulary).tolist()
        tokens = [vocabulary.data[start:stop] for start, stop in zip([0, *stops], stops, strict=False)]
        nothing = (token for token, text in enumerate(tokens) if not text or _TEXTLESS in text)
        return cls(tokens, frozenset(unpacked(vocabulary.special)).union(nothing))

    @property
    def size(self) -> int:
        return len(self.tokens)

    @cached_property
    def ids(self) -> dict[bytes, int]:
        """The lowest id of each text, but the highest of a byte: a lower one is there for texts without tokens.

        Bytes that are no token have an id behind ``size``, which no model samples.
        """
        found: dict[bytes, int] = {}
        for token, text in enumerate(self.tokens):
            if token not in self.textless and (len(text) == 1 or text not in found):
                found[text] = token
        missing = [text for text in (bytes([byte]) for byte in range(256)) if text not in found]
        return found | {text: self.size + at for at, text in enumerate(missing)}

    @property
    def end(self) -> int:
        """The id of a token that ends an answer, behind all others: the library wants to have one."""
        return self.size + sum(token >= self.size for token in self.ids.values())

    def spelled(self) -> list[bytes]:
        """Return the bytes of all tokens, by id, as the library is told them."""
        named = [self._name(token) if token in self.textless else text for token, text in enumerate(self.tokens)]
        missing = [text for text, token in self.ids.items() if token >= self.size]
        return [*named, *missing, _TEXTLESS + b"end"]

    def _name(self, token: int) -> bytes:
        text = self.tokens[token]
        # A name in brackets is that of another id to the library.
        plain = text and _TEXTLESS not in text and not text.startswith(b"[")
        return _TEXTLESS + (text if plain else b"[%d]" % token)
