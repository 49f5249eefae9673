"""The measurements of one model at one length, and their row in a table."""

from __future__ import annotations

from dataclasses import dataclass

from ..measure import Row

# Speed-ups that a published cache of keys and values on disk reports for 4k and 16k tokens; we want twice that.
PUBLISHED = {1024: 27, 4096: 27, 16384: 93}


@dataclass
class Figures:
    """Seconds to the first token. ``ram``, ``disk`` and ``dropped`` (disk, page cache empty) are medians."""

    model: str
    tokens: int
    cold: float
    ram: float
    step: float  # a decode step of a stream after as many tokens
    copy: float
    disk: float = 0.0
    dropped: float = 0.0
    read: float = 0.0
    read_dropped: float = 0.0

    @property
    def row(self) -> Row:
        restored = max(0.0, self.ram - self.step)
        return Row(
            f"{self.model}, {self.tokens} tokens",
            f"cold {self.cold:.2f} s; memory {_ms(self.ram)} ({self.cold / self.ram:.0f}×), of which a decode step is "
            f"{_ms(self.step)}: the rest is {restored / self.copy:.1f}× copying ({_ms(self.copy)}); "
            f"disk after a restart {_ms(self.disk)} ({self.cold / self.disk:.0f}×, "
            f"{self.disk / self.read:.1f}× reading); "
            f"with an empty page cache {_ms(self.dropped)} ({self.cold / self.dropped:.0f}×, "
            f"{self.dropped / self.read_dropped:.1f}× reading)",
            f"disk ≥ {2 * PUBLISHED[self.tokens]}×, ≤ 2× reading; memory ≤ 2× copying",
        )


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms"
