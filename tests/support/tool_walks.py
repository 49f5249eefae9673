"""Random answers that a grammar of tool calls allows, as the engine follows it, over bytes and markers."""

from __future__ import annotations

import random
from array import array
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mlx_sidecar.engine.grammar.matcher import Matcher
from mlx_sidecar.engine.grammar.token_bytes import TokenBytes
from mlx_sidecar.engine.grammar.tokenizer import Tokenizer
from mlx_sidecar.link.messages import Vocabulary

END = 256
_LONGEST = 1200
_PRINTABLE = [*range(32, 127), 10]


@dataclass
class Words:
    """A model's tokens: bytes, one that ends, and ``markers``, which are ``special`` or not."""

    markers: Sequence[str]
    special: bool

    def __post_init__(self) -> None:
        texts = [*(bytes([byte]) for byte in range(END)), b"", *(marker.encode() for marker in self.markers)]
        ends = array("I", np.cumsum([len(text) for text in texts]).tolist())
        special = array("I", [END, *(range(END + 1, len(texts)) if self.special else ())])
        vocabulary = Vocabulary("m", b"".join(texts), ends.tobytes(), special.tobytes())
        self.texts = texts
        self._tokenizer = Tokenizer(TokenBytes.of(vocabulary))

    def id_of(self, string: str) -> int | None:
        return END + 1 + self.markers.index(string) if string in self.markers else None

    def matcher(self, grammar: str) -> Matcher:
        return Matcher.compiled(self._tokenizer, grammar, len(self.texts), [END])

    def tokens(self, text: str) -> list[int]:
        """``text`` with markers as their tokens."""
        for marker in sorted(self.markers, key=len, reverse=True):
            if marker in text:
                before, _, behind = text.partition(marker)
                token = self.id_of(marker)
                assert token is not None
                return [*self.tokens(before), token, *self.tokens(behind)]
        return list(text.encode())

    def accepts(self, grammar: str, text: str) -> bool:
        """Whether ``text`` is a whole answer."""
        matcher = self.matcher(grammar)
        return matcher.replay(self.tokens(text)) and matcher.complete

    def walk(self, grammar: str, drawn: random.Random, closings: Sequence[str]) -> str | None:
        """A whole answer that is ``drawn``; ``closings`` are tried often, so that it ends. None if it is too long."""
        matcher = self.matcher(grammar)
        runs = [self.tokens(text) for text in closings]
        answer: list[int] = []
        while not matcher.ended:
            if len(answer) > _LONGEST:
                return None
            if matcher.complete and drawn.random() < 0.5:
                break
            run = drawn.choice(runs) if drawn.random() < 0.7 else []
            if not run or matcher.allowed(run) < len(run):
                run = [self._drawn(matcher, drawn)]
            answer += run
            assert matcher.replay(run), matcher.failure
        return b"".join(self.texts[token] for token in answer).decode()

    def _drawn(self, matcher: Matcher, drawn: random.Random) -> int:
        allowed = matcher.mask()
        allowed[END] = False
        likely = [token for token in _PRINTABLE if allowed[token]] if drawn.random() < 0.9 else []
        return int(drawn.choice(likely or np.flatnonzero(allowed).tolist()))


def closings_of(*texts: str) -> list[str]:
    """``texts`` that are not empty, and what ends JSON."""
    return [*(text for text in texts if text), '"', "}", "]", '"}', "null", ","]
