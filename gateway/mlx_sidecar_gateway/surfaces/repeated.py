"""Events that are written again and again, with another text in one place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import orjson

# No JSON text holds this byte: in strings it is escaped.
_GAP: Final = b"\0"


class Repeated:
    """The bytes around the text, which are encoded once, so that an event costs the encoding of its text alone."""

    def __init__(self, event: Callable[[Any], bytes]) -> None:
        """``event`` encodes a whole event around a value, which stands in it once."""
        self._before, self._behind = event(orjson.Fragment(_GAP)).split(_GAP)

    def around(self, text: str) -> bytes:
        """The event with this text: the bytes that ``event`` would have made."""
        return b"".join((self._before, orjson.dumps(text), self._behind))
