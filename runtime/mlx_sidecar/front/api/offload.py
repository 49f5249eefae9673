"""Work that would hold up the event loop goes to a thread; small work stays, because the hop costs more than it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

from pydantic_core import to_json

from mlx_sidecar_protocol.model import Received

T = TypeVar("T")

SMALL = 4096  # characters or items; about a millisecond of tokenising


async def off_loop(function: Callable[..., T], *args: Any, size: int = 0) -> T:
    """``function(*args)``, in a thread unless ``size`` and every argument with a length are small."""
    if size <= SMALL and all(_size(arg) <= SMALL for arg in args):
        return function(*args)
    return await asyncio.get_running_loop().run_in_executor(None, partial(_run, function, *args))


async def in_thread(threads: ThreadPoolExecutor | None, function: Callable[..., T], *args: Any) -> T:
    """``function(*args)`` in one of ``threads``; None: in one of those that everything shares."""
    return await asyncio.get_running_loop().run_in_executor(threads, partial(function, *args))


def _run(function: Callable[..., T], *args: Any) -> T:
    try:
        return function(*args)
    except StopIteration as error:  # no future can carry it: a caller would wait for ever
        raise RuntimeError("an iterator ended where none was expected") from error


def _size(value: Any) -> int:
    """Characters of all strings within and items of all lists, or some number above ``SMALL``."""
    if isinstance(value, str | memoryview):
        return len(value)
    if isinstance(value, Received):
        return _size(dict(value))
    if isinstance(value, list) and (len(value) > SMALL or (value and isinstance(value[0], int))):
        return len(value)
    size = 0
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            size += 1 + _size(item)
            if size > SMALL:
                break
    return size


SLICE = 16_384  # items or characters; well below a millisecond, for which nothing else runs


def object_json(members: dict[str, Any]) -> bytes:
    """JSON of an object, made in slices, between which other threads may run. Members without a value are left out."""
    return b"{%b}" % b",".join(
        b"%b:%b" % (to_json(name), _value(value)) for name, value in members.items() if value is not None
    )


def _value(value: Any) -> bytes:
    if not isinstance(value, str | list | memoryview):
        return to_json(value)
    slices = (value[at : at + SLICE] for at in range(0, len(value), SLICE))
    # Numbers that are packed stay so: as a list they would take nine times as much.
    parts = (part.tolist() if isinstance(part, memoryview) else part for part in slices)
    # A text's slices are texts between quotes, and need nothing between them.
    whole, between = (b'"%b"', b"") if isinstance(value, str) else (b"[%b]", b",")
    return whole % between.join(to_json(part)[1:-1] for part in parts)
