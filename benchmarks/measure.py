"""The tools of every benchmark: the machine's description, rows of a table, medians of interleaved runs."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Row:
    """One figure. ``asked`` is the project's goal in words; empty where the figure is only for information."""

    what: str
    figure: str
    asked: str = ""


def machine() -> str:
    """Return processor, cores, memory and Python in one line."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    python = f"Python {platform.python_version()}"
    return f"{_processor()}, {os.cpu_count()} cores, {memory:.0f} GiB, {platform.system()}, {python}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def interleaved(ours: Callable[[], float], peer: Callable[[], float], rounds: int) -> tuple[float, float, float]:
    """Return the medians of both and the median of their ratios by round, so that a drifting machine cancels out."""
    pairs = [(ours(), peer()) for _ in range(rounds)]
    return (
        statistics.median(a for a, _ in pairs),
        statistics.median(b for _, b in pairs),
        statistics.median(a / b for a, b in pairs),
    )


def table(rows: list[Row]) -> str:
    lines = ["| what | measured | asked |", "| --- | --- | --- |"]
    return "\n".join(lines + [f"| {row.what} | {row.figure} | {row.asked} |" for row in rows])
