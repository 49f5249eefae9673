"""The reader reads the wire. It imports nothing heavy, because it starts before all other imports."""

from __future__ import annotations

import errno
import logging
import os
import select
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

from .stdio import is_stream, wait_until

CHUNK_BYTES = 64 * 1024
_CHUNKS_AHEAD = 16  # read but not yet handled; bounds the memory that a host can fill

log = logging.getLogger(__name__)


class Loop(Protocol):
    """An event loop, as far as the wire needs it."""

    def call_soon(self, callback: Callable[..., object], *args: object) -> object: ...
    def call_soon_threadsafe(self, callback: Callable[..., object], *args: object) -> object: ...
    def add_reader(self, fd: int, callback: Callable[..., object], *args: object) -> object: ...
    def remove_reader(self, fd: int) -> object: ...


class Reader:
    """Reads a descriptor: a pipe, a socket, a file or a terminal; blocking or not.

    A daemon thread begins before there is an event loop, and keeps what it reads, within a bound. Once a loop is
    attached, the loop itself reads a pipe or socket when it is ready, because a round trip takes 40% less without a
    thread switch. Anything else stays with the thread.
    """

    # The loop's thread alone writes _handled and _held, the reader's alone _read and _waits: no lock is needed to
    # count. _waits is set before the counts are looked at again, so a wake-up cannot fall between the two.

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._read = 0
        self._handled = 0
        self._held = False
        self._waits = False
        self._ended = False
        self._changed = threading.Condition()
        self._early: deque[bytes | None] = deque()  # None is the end of input
        self._loop: Loop | None = None
        self._by_loop = False
        self._on_chunk: Callable[[bytes], None]
        self._on_end: Callable[[], None]
        self._pollable = is_stream(fd)
        self._bell = os.pipe()  # written to once, to have the thread give way
        self._thread = threading.Thread(target=self._run, name="wire-reader", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def attach(self, loop: Loop, on_chunk: Callable[[bytes], None], on_end: Callable[[], None]) -> None:
        """From now on call ``on_chunk`` in ``loop`` for each chunk, those read so far first, and ``on_end`` once."""
        self._on_chunk, self._on_end = on_chunk, on_end
        with self._changed:
            while self._early:
                loop.call_soon_threadsafe(self._handle, self._early.popleft())
            # Not before: once there is a loop, the thread hands it the next chunk without a look at the early ones.
            self._loop = loop
        os.write(self._bell[1], b"x")

    def hold(self, held: bool) -> None:
        """In the loop: stop reading, or go on. A chunk or two may still come."""
        self._held = held
        if self._by_loop:
            self._read_by_loop()
        self._wake()

    def _handle(self, chunk: bytes | None) -> None:
        self._handled += 1
        if chunk is None:
            self._on_end()
        else:
            self._on_chunk(chunk)
        if self._waits:
            self._wake()

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify()

    # Reading by the loop.

    def _take_over(self) -> None:
        self._by_loop = True
        os.close(self._bell[0])
        os.close(self._bell[1])
        self._read_by_loop()

    def _read_by_loop(self) -> None:
        assert self._loop is not None
        if self._held or self._ended:
            self._loop.remove_reader(self._fd)
        else:
            self._loop.add_reader(self._fd, self._on_readable)

    def _on_readable(self) -> None:
        chunk = self._chunk()
        if chunk is None:
            self._ended = True
            self._read_by_loop()
            self._on_end()
        elif chunk:
            self._on_chunk(chunk)

    # Reading by the thread.

    def _run(self) -> None:
        try:
            self._read_all()
        except BaseException:
            log.exception("stdin cannot be read")
            if self._loop is not None or not self._keep(None):
                self._call(self._handle, None)

    def _read_all(self) -> None:
        chunk: bytes | None = b""
        while chunk is not None:
            if self._full():
                self._wait_for_room()
            if self._pollable and not self._wait_for_input():
                self._call(self._take_over)
                return
            chunk = self._chunk()
            if chunk == b"":
                wait_until(self._fd, select.POLLIN)
                continue
            self._read += 1
            if self._loop is not None or not self._keep(chunk):
                self._call(self._handle, chunk)

    def _call(self, callback: Callable[..., object], *args: object) -> None:
        assert self._loop is not None
        with suppress(RuntimeError):  # the loop is closed: we are leaving
            self._loop.call_soon_threadsafe(callback, *args)

    def _wait_for_input(self) -> bool:
        """Wait until there is something to read. False once the loop can do that itself."""
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        poll.register(self._bell[0], select.POLLIN)
        return all(fd != self._bell[0] for fd, _ in poll.poll())

    def _full(self) -> bool:
        return self._held or self._read - self._handled >= _CHUNKS_AHEAD

    def _wait_for_room(self) -> None:
        with self._changed:
            self._waits = True
            self._changed.wait_for(lambda: not self._full())
            self._waits = False

    def _keep(self, chunk: bytes | None) -> bool:
        """Keep a chunk for ``attach``; False if that came in between."""
        with self._changed:
            if self._loop is None:
                self._early.append(chunk)
                return True
        return False

    def _chunk(self) -> bytes | None:
        """The next bytes, none if there are none yet, None at the end of input."""
        try:
            return os.read(self._fd, CHUNK_BYTES) or None
        except BlockingIOError:
            return b""
        except OSError as error:
            # A terminal that hung up or a peer that reset has ended too; so has a descriptor we cannot read.
            if error.errno not in (errno.EIO, errno.ECONNRESET):
                log.error("stdin cannot be read: %s", error)
            return None
