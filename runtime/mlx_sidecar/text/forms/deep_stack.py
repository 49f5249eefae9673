"""Runs what recurses deeply on a thread with room for it, because an overflow of the stack ends the process."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TypeVar

T = TypeVar("T")

STACK_BYTES = 256 * 2**20  # of address space; rules as deep as the longest grammar can have take a part of it


def on_deep_stack(function: Callable[..., T], *args: object) -> T:
    """``function(*args)``, with whatever it raises."""
    return _thread().submit(function, *args).result()


@cache
def _thread() -> ThreadPoolExecutor:
    pool = ThreadPoolExecutor(1, thread_name_prefix="forms")
    before = threading.stack_size(STACK_BYTES)
    try:
        pool.submit(bool).result()  # starts it, with this size
    finally:
        threading.stack_size(before)
    return pool
