"""Log-probabilities of a stream's tokens are stored as numbers and told as the contract has them."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ...link.messages import TokenLogprob

_ENTRIES = 512  # of one delta: at about 60 bytes each it stays well below 64 KiB


class Logprobs:
    """One entry for each token of a transcript. One thread appends; others read those of published tokens.

    ``alternatives`` is how many the host wants for each; ``texts`` holds each token's own text. Memory is eight
    bytes a token and eight for each of its alternatives.
    """

    def __init__(self, alternatives: int, texts: Mapping[int, str]) -> None:
        self.tokens_per_delta = _ENTRIES // (1 + alternatives)
        self._texts = texts
        self._chosen = array("f")
        self._top_tokens = array("I")
        self._top = array("f")
        self._ends = array("I")  # of each token's alternatives

    def append(self, entries: Sequence[TokenLogprob]) -> None:
        for entry in entries:
            for token, logprob in entry.top:
                self._top_tokens.append(token)
                self._top.append(logprob)
            self._ends.append(len(self._top))
            self._chosen.append(entry.logprob)

    def entries(self, tokens: Sequence[int], start: int = 0) -> Iterator[dict[str, Any]]:
        """Members of the contract's ``Logprob`` for each of ``tokens``, the first of which is number ``start``."""
        return (self._entry(at, token) for at, token in enumerate(tokens, start))

    def _entry(self, at: int, token: int) -> dict[str, Any]:
        begin = self._ends[at - 1] if at else 0
        top = zip(self._top_tokens[begin : self._ends[at]], self._top[begin : self._ends[at]], strict=True)
        return {
            "token": token,
            "text": self._texts[token],
            "logprob": self._chosen[at],
            "top": [{"token": other, "text": self._texts[other], "logprob": logprob} for other, logprob in top],
        }
