"""Arrays between pages that nothing may touch: a kernel that reads or writes beyond one ends the process."""

from __future__ import annotations

import ctypes
import mmap
import weakref
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

PAGE = mmap.PAGESIZE


Number = TypeVar("Number", bound=np.generic)


def guarded(array: NDArray[Number], *, at_start: bool = False) -> NDArray[Number]:
    """Return a copy of `array` that ends, or else starts, right beside a page that is forbidden."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
    libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    used = -(-array.nbytes // PAGE) * PAGE
    start = libc.mmap(None, used + 2 * PAGE, 0, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1, 0)
    if start in (None, ctypes.c_void_p(-1).value):
        raise MemoryError(ctypes.get_errno())
    if used and libc.mprotect(start + PAGE, used, mmap.PROT_READ | mmap.PROT_WRITE) != 0:
        raise OSError(ctypes.get_errno(), "mprotect")
    address = start + PAGE + (0 if at_start else used - array.nbytes)
    memory = (ctypes.c_uint8 * array.nbytes).from_address(address)
    weakref.finalize(memory, libc.munmap, start, used + 2 * PAGE)
    copy: NDArray[Number] = np.ctypeslib.as_array(memory).view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy
