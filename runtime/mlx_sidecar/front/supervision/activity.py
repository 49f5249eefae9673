"""Activity tells whether a process works or waits for a processor, which a clock cannot tell on a busy machine."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Activity:
    """Seconds of processor time used so far, and whether the process is ready to use more."""

    processor_s: float
    runnable: bool

    def waited_since(self, before: Activity, enough_s: float) -> bool:
        """Whether the process is runnable but has had less than ``enough_s`` of a processor since ``before``."""
        return self.runnable and self.processor_s - before.processor_s < enough_s


def activity(pid: int) -> Activity | None:
    """The activity of a process from /proc; None where there is none (only Linux has it)."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The second field is the program's name, in brackets, and may hold anything.
    state, *fields = stat.rpartition(")")[2].split()
    ticks = int(fields[10]) + int(fields[11])  # utime and stime, fields 14 and 15
    return Activity(ticks / os.sysconf("SC_CLK_TCK"), state == "R")
