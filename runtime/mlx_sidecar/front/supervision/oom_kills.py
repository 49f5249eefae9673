"""The kernel counts the processes that it killed for want of memory, but does not say which they were."""

from __future__ import annotations

from pathlib import Path

_COUNTERS = Path("/proc/vmstat")


def oom_kills(counters: Path = _COUNTERS) -> int:
    """Kills on this machine since it started, in all cgroups; 0 where the system does not tell."""
    try:
        lines = counters.read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)
