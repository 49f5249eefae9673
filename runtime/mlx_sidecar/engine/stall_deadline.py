"""How long an operation of the device may take before the front takes the engine for hung. Pure arithmetic, in seconds.

A bound is wide: what comes too late is a slower recovery, what comes too early kills an engine that works.
"""

from __future__ import annotations

from dataclasses import dataclass

# A step may take so many times what steps like it took: another process may have the machine for a while.
FACTOR = 20.0
# Where nothing was measured a kernel may have to be compiled and weights to be read, from a slow disk at worst.
UNMEASURED_S = 60.0
SLOWEST_BYTES_PER_S = 100e6
# The memory of a model that rested for so long may have been paged out: its first step is like one of a new model.
RESTED_S = 60.0
# Who lowers the floor, for a test, does not want to wait a minute for the rest either.
UNMEASURED_FLOORS = 6.0


@dataclass(frozen=True)
class Bounds:
    """``stall_after_s``: no bound is lower."""

    stall_after_s: float = 10.0

    def step_s(self, expected_s: float | None, model_bytes: int) -> float:
        """For a step that is expected to take ``expected_s``, or nobody knows how long, on a model of so many bytes."""
        if expected_s is None:
            return self.unmeasured_s(model_bytes)
        return max(self.stall_after_s, FACTOR * expected_s)

    def unmeasured_s(self, size_bytes: int) -> float:
        """For a step of a load, or for a first one, that may have to read ``size_bytes``."""
        base_s = min(UNMEASURED_S, UNMEASURED_FLOORS * self.stall_after_s)
        return max(self.stall_after_s, base_s + size_bytes / SLOWEST_BYTES_PER_S)
