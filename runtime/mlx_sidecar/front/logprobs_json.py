"""Log-probabilities are encoded entry by entry, because a long answer has a hundred thousand of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic_core import from_json, to_json

from mlx_sidecar_protocol.model import Sent


def logprobs_json(entries: Iterable[Mapping[str, Any]]) -> bytes:
    """JSON of a list of the contract's ``Logprob``."""
    # One call for each token, because none may hold the interpreter for long.
    return b"[%b]" % b",".join(to_json(entry, inf_nan_mode="null") for entry in entries)


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
