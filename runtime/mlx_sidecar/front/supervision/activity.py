"""Whether a process works or waits for a processor: on a busy machine a clock alone cannot tell."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Activity:
    """``processor_s`` used so far; ``runnable``: it would use more if it were let."""

    processor_s: float
    runnable: bool

    def waited_since(self, before: Activity, enough_s: float) -> bool:
        """Whether it has not been let work for ``enough_s`` since ``before``, and would have."""
        return self.runnable and self.processor_s - before.processor_s < enough_s


def activity(pid: int) -> Activity | None:
    """What the system says of a process; None where it says nothing (only Linux does)."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The second field is the program's name, in brackets, and may hold anything.
    state, *fields = stat.rpartition(")")[2].split()
    ticks = int(fields[10]) + int(fields[11])  # utime and stime, fields 14 and 15
    return Activity(ticks / os.sysconf("SC_CLK_TCK"), state == "R")
