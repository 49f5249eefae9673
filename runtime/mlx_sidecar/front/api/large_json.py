"""Results that may be large, as JSON made in slices: no call holds the interpreter, and so the event loop, for long."""

from __future__ import annotations

from typing import Any

from pydantic_core import to_json

SLICE = 16_384  # items; well below a millisecond


def object_json(members: dict[str, Any]) -> bytes:
    """JSON of an object. Members without a value are left out."""
    return b"{%b}" % b",".join(
        b"%b:%b" % (to_json(name), _value(value)) for name, value in members.items() if value is not None
    )


def _value(value: Any) -> bytes:
    if not isinstance(value, list | memoryview):
        return to_json(value)
    slices = (value[at : at + SLICE] for at in range(0, len(value), SLICE))
    # Numbers that are packed stay so: as a list they would take nine times as much.
    parts = (part.tolist() if isinstance(part, memoryview) else part for part in slices)
    return b"[%b]" % b",".join(to_json(part)[1:-1] for part in parts)
