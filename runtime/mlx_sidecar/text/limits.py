"""What a text process may use. The system keeps these limits, whatever library is in the middle of whatever."""

from __future__ import annotations

import math
import resource
import sys
import time
from contextlib import suppress
from pathlib import Path


class Limits:
    """``memory_bytes`` of address space, and for each request an amount of processor time.

    Processor time, not time on the clock: a busy machine makes nothing of ours guilty.
    """

    def __init__(self, memory_bytes: int) -> None:
        self._memory_bytes = memory_bytes

    def set(self) -> None:
        """Take the limits that hold from now on. One that the system does not keep, or not so low, is left as it is."""
        _lower(resource.RLIMIT_CORE, 0)
        _lower(resource.RLIMIT_AS, self._memory_bytes)
        if sys.platform == "linux":
            # Where the machine runs out of memory all the same, it is not the front that goes.
            with suppress(OSError):
                Path("/proc/self/oom_score_adj").write_text("1000")

    def allow(self, processor_s: float) -> None:
        """From now on the process may use so much processor time; beyond it, the system ends it."""
        _lower(resource.RLIMIT_CPU, math.ceil(time.process_time() + processor_s))


def _lower(kind: int, soft: int) -> None:
    _, hard = resource.getrlimit(kind)
    wanted = soft if hard == resource.RLIM_INFINITY else min(soft, hard)
    with suppress(OSError, ValueError):
        resource.setrlimit(kind, (wanted, hard))
