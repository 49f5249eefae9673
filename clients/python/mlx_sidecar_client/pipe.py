"""The sidecar's pipe in asyncio's event loop, read in the turn in which something came, without a switch of tasks."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import BinaryIO

import anyio
from anyio.lowlevel import current_token

_CHUNK_BYTES = 1 << 16


def is_asyncio() -> bool:
    """Whether the event loop of this task is one of asyncio's."""
    token = current_token()
    # Newer versions of anyio wrap the event loop.
    return isinstance(getattr(token, "native_token", token), asyncio.AbstractEventLoop)


class ReadPipe:
    """The reading end of a new pipe; ``write_end`` is for the process at the other, and the caller closes it."""

    def __init__(self) -> None:
        read_end, self.write_end = os.pipe()
        os.set_blocking(read_end, False)
        self._file: BinaryIO = os.fdopen(read_end, "rb", buffering=0)
        self._changed = anyio.Event()
        self._has_ended = False
        self._problem: Exception | None = None

    def close(self) -> None:
        """Close this end."""
        self._file.close()

    async def read(self, take: Callable[[bytes], bool], take_rest: Callable[[], None]) -> None:
        """Read until the end, or until this is cancelled.

        ``take`` gets all bytes in the turn in which they were read; if it returns True, ``take_rest`` is called soon,
        in this task. An exception of either is raised here.
        """
        loop, file = asyncio.get_running_loop(), self._file.fileno()

        def read_once() -> None:
            try:
                chunk = os.read(file, _CHUNK_BYTES)
            except BlockingIOError:
                return
            except OSError:
                chunk = b""
            self._has_ended = not chunk
            try:
                if chunk and not take(chunk):
                    return
            except Exception as error:  # noqa: BLE001 - raised in the task
                self._problem, self._has_ended = error, True
            if self._has_ended:
                loop.remove_reader(file)
            self._changed.set()

        loop.add_reader(file, read_once)
        try:
            while not self._has_ended:
                await self._changed.wait()
                self._changed = anyio.Event()
                take_rest()
        finally:
            loop.remove_reader(file)
        if self._problem is not None:
            raise self._problem
