"""Limits of one message, advertised by ``initialize``."""

from __future__ import annotations

from dataclasses import dataclass

_PARSER_NESTING = 200  # the JSON parser's own limit


@dataclass(frozen=True)
class Limits:
    """Sizes in bytes, elements of a batch, nesting of arrays and objects, and counts of one message.

    ``values`` are commas, ``members`` colons, ``containers`` opening brackets, all outside of strings.
    """

    frame_bytes: int = 64 * 2**20
    batch: int = 1000
    nesting: int = 128
    header_bytes: int = 8192
    values: int = 1_100_000  # enough for a context of 2^20 tokens; parsing them takes 70 ms
    members: int = 2**16
    containers: int = 2**15  # each may be a message of a chat, which takes 4 µs to validate

    def __post_init__(self) -> None:
        if self.nesting > _PARSER_NESTING:
            raise ValueError(f"a nesting limit above {_PARSER_NESTING} cannot be kept")
        counts = (self.values, self.members, self.containers)
        if min(self.frame_bytes, self.batch, self.nesting, self.header_bytes, *counts) < 1:
            raise ValueError("limits must be positive")


DEFAULT_LIMITS = Limits()
