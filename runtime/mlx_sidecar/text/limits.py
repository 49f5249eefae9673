"""Limits of memory and processor time for a text process, kept by the system even inside a library's call."""

from __future__ import annotations

import math
import resource
import sys
import time
from contextlib import suppress
from pathlib import Path


class Limits:
    """Limits the process to ``memory_bytes`` of address space, and each request to an amount of processor time.

    The limit is on processor time, because on a busy machine time on the clock says nothing about the process.
    """

    def __init__(self, memory_bytes: int) -> None:
        self._memory_bytes = memory_bytes

    def set(self) -> None:
        """Set the limits for good; a limit that the system does not offer, or not so low, is left as it is."""
        _lower(resource.RLIMIT_CORE, 0)
        _lower(resource.RLIMIT_AS, self._memory_bytes)
        if sys.platform == "linux":
            # If the machine runs out of memory all the same, the kernel picks this process before the front.
            with suppress(OSError):
                Path("/proc/self/oom_score_adj").write_text("1000")

    def allow(self, processor_s: float) -> None:
        """Allow ``processor_s`` more seconds of processor time, after which the system ends the process."""
        _lower(resource.RLIMIT_CPU, math.ceil(time.process_time() + processor_s))


def _lower(kind: int, soft: int) -> None:
    _, hard = resource.getrlimit(kind)
    wanted = soft if hard == resource.RLIM_INFINITY else min(soft, hard)
    with suppress(OSError, ValueError):
        resource.setrlimit(kind, (wanted, hard))
