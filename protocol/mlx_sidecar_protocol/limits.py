"""What one message may be at most. Advertised by ``initialize``."""

from __future__ import annotations

from dataclasses import dataclass

_PARSER_NESTING = 200  # the JSON parser refuses deeper texts itself


@dataclass(frozen=True)
class Limits:
    """``frame_bytes`` and ``header_bytes`` of one message, ``batch`` elements, ``nesting`` of arrays and objects.

    ``values`` are commas, ``members`` colons, ``containers`` opening brackets, all outside of strings.
    """

    frame_bytes: int = 64 * 2**20
    batch: int = 1000
    nesting: int = 128
    header_bytes: int = 8192
    values: int = 1_100_000  # a context of 2^20 tokens and what else a message says; to parse them takes 70 ms
    members: int = 2**16
    containers: int = 2**15  # a message of a chat each, at 4 µs to validate

    def __post_init__(self) -> None:
        if self.nesting > _PARSER_NESTING:
            raise ValueError(f"a nesting limit above {_PARSER_NESTING} cannot be kept")
        counts = (self.values, self.members, self.containers)
        if min(self.frame_bytes, self.batch, self.nesting, self.header_bytes, *counts) < 1:
            raise ValueError("limits must be positive")


DEFAULT_LIMITS = Limits()
