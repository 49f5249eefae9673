"""Answers that say how much of their prompt was cached, and why no more: in a header, or in the end of a stream."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

import orjson

from mlx_sidecar_client import GenerateResult

from ..surfaces.events import Delta
from ..surfaces.faults import Fault
from ..surfaces.surface import Encoder, Generation
from .exchange import Exchange

HEADER: Final = "x-mlx-sidecar-cache"
MEMBER: Final = "cache"

_FOREIGN: Final = {"text_known"}  # the text of a prompt that may be another caller's


def explained(generation: Generation, exchange: Exchange, *, is_alone: bool) -> Generation:
    """``generation``, whose answer says where its prompt came from; other callers' prompts are shown to none."""

    def explanation(result: GenerateResult) -> dict[str, Any]:
        told = {} if result.cache is None else result.cache.model_dump(exclude_none=True)
        return {name: value for name, value in told.items() if is_alone or name not in _FOREIGN}

    def whole(result: GenerateResult) -> bytes:
        # As ASCII, because a header takes nothing else.
        exchange.extra[HEADER] = json.dumps(explanation(result), separators=(",", ":"))
        return generation.whole(result)

    def encoder() -> Encoder:
        return _ExplainingEncoder(generation.encoder(), explanation)

    return replace(generation, whole=whole, encoder=encoder)


class _ExplainingEncoder:
    """An encoder whose last object has one member more, which clients hand on or leave aside."""

    def __init__(self, encoder: Encoder, explanation: Callable[[GenerateResult], Mapping[str, Any]]) -> None:
        self._encoder = encoder
        self._explanation = explanation

    def delta(self, event: Delta) -> bytes:
        return self._encoder.delta(event)

    def ping(self) -> bytes:
        return self._encoder.ping()

    def end(self, result: GenerateResult) -> bytes:
        return with_member(self._encoder.end(result), self._explanation(result))

    def error(self, fault: Fault) -> bytes:
        return self._encoder.error(fault)


def with_member(data: bytes, value: Mapping[str, Any]) -> bytes:
    """``data``, server-sent events or lines of JSON, whose last object has ``value`` as its member ``cache``."""
    lines = data.split(b"\n")
    for number in range(len(lines) - 1, -1, -1):
        prefix, brace, rest = lines[number].partition(b"{")
        if brace and prefix.strip() in (b"", b"data:"):
            lines[number] = prefix + orjson.dumps({**orjson.loads(brace + rest), MEMBER: value})
            return b"\n".join(lines)
    raise ValueError("there is no object in the end of the stream")
