"""Server-sent events, as bytes."""

from __future__ import annotations

from typing import Any

import orjson

PING = b": ping\n\n"


def data(value: Any) -> bytes:
    """An event without a name."""
    return b"data: " + orjson.dumps(value) + b"\n\n"


def event(name: str, value: Any) -> bytes:
    """An event with a name."""
    return b"event: " + name.encode() + b"\ndata: " + orjson.dumps(value) + b"\n\n"
