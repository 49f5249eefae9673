"""What one message may be at most. Advertised by ``initialize``."""

from __future__ import annotations

from dataclasses import dataclass

_PARSER_NESTING = 200  # the JSON parser refuses deeper texts itself


@dataclass(frozen=True)
class Limits:
    """``frame_bytes`` and ``header_bytes`` of one message, ``batch`` elements, ``nesting`` of arrays and objects."""

    frame_bytes: int = 64 * 2**20
    batch: int = 1000
    nesting: int = 128
    header_bytes: int = 8192

    def __post_init__(self) -> None:
        if self.nesting > _PARSER_NESTING:
            raise ValueError(f"a nesting limit above {_PARSER_NESTING} cannot be kept")
        if min(self.frame_bytes, self.batch, self.nesting, self.header_bytes) < 1:
            raise ValueError("limits must be positive")


DEFAULT_LIMITS = Limits()
