"""Log-probabilities of a stream's tokens: stored as numbers, told as JSON."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic_core import from_json, to_json

from mlx_sidecar_protocol.model import Sent

from ...link.messages import TokenLogprob

_ENTRIES = 512  # of one delta: at about 60 bytes each it stays well below 64 KiB


class Logprobs:
    """One entry for each token of a transcript. One thread appends; others read those of published tokens.

    ``alternatives`` is how many the host wants for each; ``texts`` is what each token says by itself. Memory is eight
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

    def encode(self, tokens: Sequence[int], start: int = 0) -> bytes:
        """JSON of a list of the contract's ``Logprob``, for ``tokens``, the first of which is number ``start``."""
        # A call for each token: none holds the interpreter for long.
        entries = (self._entry(at, token) for at, token in enumerate(tokens, start))
        return b"[%b]" % b",".join(to_json(entry, inf_nan_mode="null") for entry in entries)

    def _entry(self, at: int, token: int) -> dict[str, Any]:
        begin = self._ends[at - 1] if at else 0
        top = zip(self._top_tokens[begin : self._ends[at]], self._top[begin : self._ends[at]], strict=True)
        return {
            "token": token,
            "text": self._texts[token],
            "logprob": self._chosen[at],
            "top": [{"token": other, "text": self._texts[other], "logprob": logprob} for other, logprob in top],
        }


class WithLogprobs:
    """A message of ours, and its member ``logprobs`` as JSON: as models, a long answer's would take seconds."""

    def __init__(self, message: Sent, logprobs: bytes) -> None:
        self._message = message
        self._logprobs = logprobs

    def to_json_bytes(self) -> bytes:
        return b'%b,"logprobs":%b}' % (self._message.to_json_bytes()[:-1], self._logprobs)

    def to_plain(self) -> dict[str, Any]:
        plain: dict[str, Any] = from_json(self.to_json_bytes())
        return plain
