"""Counts the allocations of a Python process, by a small library that is compiled here and loaded there.

Python has no such count: ``sys.getallocatedblocks`` and ``tracemalloc`` know what is alive, and an event leaves nothing
alive. A byte that Python copies is copied into memory that it asked for, so the bytes asked for are the most that can
have been copied; objects out of CPython's free lists (small tuples, frames, floats) are not asked for, nor counted.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

SOURCE = Path(__file__).with_name("allocations.c")


class Allocations(NamedTuple):
    """Calls that handed out memory, and the bytes that these asked for."""

    calls: int
    bytes: int


def compiled(folder: Path) -> Path:
    """The library, made in ``folder``. Raises ``CalledProcessError`` and ``OSError`` where there is no C compiler."""
    library = folder / "allocations.so"
    # Python's own functions are found in the program that loads the library.
    late = ["-undefined", "dynamic_lookup"] if sys.platform == "darwin" else []
    command = [os.environ.get("CC", "cc"), "-O2", "-shared", "-fPIC", *late, "-o", str(library), str(SOURCE)]
    subprocess.run(command, check=True)
    return library


class Counter:
    """The count of this process from now on. There is no way back, and one counter a process is enough."""

    def __init__(self, library: str) -> None:
        self._library = ctypes.PyDLL(library)
        for name in ("counted_calls", "counted_bytes"):
            getattr(self._library, name).restype = ctypes.c_ulonglong
        self._library.start_counting()

    def read(self) -> Allocations:
        """The allocations so far."""
        return Allocations(self._library.counted_calls(), self._library.counted_bytes())
