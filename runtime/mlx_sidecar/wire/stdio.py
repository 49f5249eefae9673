"""Our standard input and output as the wire: claimed at once, read by one thread, written by one owner.

Imports nothing heavy: ``claim`` runs before anything that might print is imported, and reading starts right after it.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import select
import stat
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Protocol

CHUNK_BYTES = 64 * 1024
_CHUNKS_AHEAD = 16  # read but not yet handled; bounds what a host can pile up in our memory
_DRAIN_BYTES = 256 * 1024  # one write; what arrives meanwhile can still be merged

log = logging.getLogger(__name__)


class Loop(Protocol):
    """What is needed of an event loop."""

    def call_soon(self, callback: Callable[..., object], *args: object) -> object: ...
    def call_soon_threadsafe(self, callback: Callable[..., object], *args: object) -> object: ...
    def add_reader(self, fd: int, callback: Callable[..., object], *args: object) -> object: ...
    def remove_reader(self, fd: int) -> object: ...


def claim() -> tuple[int, int]:
    """Take stdin and stdout for the wire; returns their new descriptors, not inherited by children.

    Afterwards fd 0 is empty and fd 1 is stderr, so that a stray read or print anywhere, in C code too, harms nothing.
    A descriptor that was closed reads as empty, or swallows what is written.
    """
    if sys.stdout is not None:
        sys.stdout.flush()
    wire_in = _duplicate(0, os.O_RDONLY)
    wire_out = _duplicate(1, os.O_WRONLY)
    null = _null(os.O_RDWR)
    os.dup2(null, 0)
    try:
        os.dup2(2, 1)
    except OSError:
        os.dup2(null, 1)  # no stderr either
    os.close(null)
    return wire_in, wire_out


def _duplicate(fd: int, flags: int) -> int:
    """A copy of ``fd``, or of /dev/null if that is closed."""
    try:
        return _above_standard(fd)
    except OSError as error:
        if error.errno != errno.EBADF:
            raise
    return _null(flags)


def _null(flags: int) -> int:
    null = os.open(os.devnull, flags)
    try:
        return _above_standard(null)
    finally:
        os.close(null)


def _above_standard(fd: int) -> int:
    """A copy that is none of 0, 1 and 2: where one of those is closed, a new descriptor would take its place."""
    return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3)


class Reader:
    """Reads a descriptor: a pipe, a socket, a file or a terminal; blocking or not.

    A daemon thread begins before there is an event loop, and keeps what it reads, within a bound. Once a loop is
    attached, a pipe or socket is read by the loop itself when it is ready: without a thread switch a round trip takes
    40% less. Anything else stays with the thread.
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
        self._pollable = _is_stream(fd)
        self._bell = os.pipe()  # written to once, to have the thread give way
        self._thread = threading.Thread(target=self._run, name="wire-reader", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def attach(self, loop: Loop, on_chunk: Callable[[bytes], None], on_end: Callable[[], None]) -> None:
        """From now on call ``on_chunk`` in ``loop`` for each chunk, those read so far first, and ``on_end`` once."""
        self._on_chunk, self._on_end = on_chunk, on_end
        with self._changed:
            self._loop = loop
            while self._early:
                loop.call_soon_threadsafe(self._handle, self._early.popleft())
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


class Outlet(Protocol):
    """Where a writer finds what to write: the mailbox."""

    on_work: Callable[[], None]

    @property
    def next_due(self) -> float | None: ...
    def drain(self, limit_bytes: int) -> list[bytes]: ...
    def close(self) -> None: ...
    def discard(self) -> None: ...


class Writer:
    """The only one that writes to the host. ``frame`` turns a body into wire bytes; nothing is sent before it is set.

    What is small and cannot block is written by the event loop itself, at the end of the turn that made it: that
    saves a thread switch per answer. Everything else is written by a daemon thread, all that waits in one write.
    """

    # Whoever holds _pen drains and writes; so bytes leave in the order they were drained in. The loop never waits
    # for it: if the thread has it, ringing the bell makes the thread look again after it.

    def __init__(self, fd: int, outlet: Outlet, clock: Callable[[], float] = time.monotonic) -> None:
        self.frame: Callable[[bytes], bytes] | None = None
        self.corked = False  # set by the loop's thread while it is going to flush anyway
        self.fd = fd
        self._outlet = outlet
        self._clock = clock
        self._pen = threading.Lock()
        self._rest = b""  # framed, and not yet written
        self._bell: SimpleQueue[None] = SimpleQueue()
        self._closing = False
        self._broken = False
        self._loop: Loop | None = None
        self._loop_thread = 0
        self._on_broken: Callable[[], None] = _nothing
        self._poll = select.poll()
        self._poll.register(fd, select.POLLOUT)
        self._promises_room = _is_stream(fd)
        self._thread = threading.Thread(target=self._run, name="wire-writer", daemon=True)
        outlet.on_work = self._on_work

    @property
    def broken(self) -> bool:
        """Nobody reads what we write."""
        return self._broken

    def start(self, loop: Loop, on_broken: Callable[[], None]) -> None:
        """In the thread of ``loop``. ``on_broken`` is called there, once, when a write finds no reader."""
        self._loop, self._on_broken = loop, on_broken
        self._loop_thread = threading.get_ident()
        self._thread.start()
        self._on_work()

    def flush(self) -> None:
        """In the loop: write what waits if that cannot block, else leave it to the thread."""
        if self.frame is None:
            return
        if not self._pen.acquire(blocking=False):
            self._bell.put(None)
            return
        try:
            done = self._write_small()
        finally:
            self._pen.release()
        if not done:
            self._bell.put(None)

    def close(self, timeout_s: float) -> bool:
        """Write what waits, for ``timeout_s`` at most, and stop. False if something could not be written."""
        self._outlet.close()
        self._closing = True
        self._bell.put(None)
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        return not self._thread.is_alive() and not self._broken

    def _on_work(self) -> None:
        if self._loop is not None and threading.get_ident() == self._loop_thread:
            if not self.corked:
                self._loop.call_soon(self.flush)
        else:
            self._bell.put(None)

    def _write_small(self) -> bool:
        """Write if there is room for certain. True if nothing is left to do, not even later."""
        if self._broken:
            return True
        if self._rest or not self._promises_room or not self._has_room():
            return False
        self._rest = self._drain()
        if 0 < len(self._rest) <= select.PIPE_BUF:
            try:
                self._rest = self._rest[os.write(self.fd, self._rest) :]
            except BlockingIOError:
                return False
            except OSError as error:
                self._break(error)
        return not self._rest and self._outlet.next_due is None

    def _has_room(self) -> bool:
        """Whether PIPE_BUF bytes can be written without waiting: what poll promises for pipes and sockets."""
        return self._poll.poll(0) == [(self.fd, select.POLLOUT)]

    def _run(self) -> None:
        while not self._broken:
            self._wait()
            closing = self._closing
            with self._pen:
                self._write_all()
            if closing:
                return

    def _wait(self) -> None:
        due = self._outlet.next_due
        with suppress(Empty):
            self._bell.get(timeout=None if due is None or self._closing else max(0.0, due - self._clock()))

    def _write_all(self) -> None:
        try:
            while self.frame is not None and not self._broken:
                self._rest = self._rest or self._drain()
                if not self._rest:
                    return
                self._write_rest()
        except OSError as error:
            self._break(error)

    def _write_rest(self) -> None:
        with memoryview(self._rest) as view:
            written = 0
            try:
                while written < len(view):
                    try:
                        written += os.write(self.fd, view[written:])
                    except BlockingIOError:  # Node hands its children descriptors that do not block
                        wait_until(self.fd, select.POLLOUT)
            finally:
                rest = bytes(view[written:])
        self._rest = rest

    def _drain(self) -> bytes:
        assert self.frame is not None
        return b"".join(map(self.frame, self._outlet.drain(_DRAIN_BYTES)))

    def _break(self, error: OSError) -> None:
        if error.errno not in (errno.EPIPE, errno.ECONNRESET):
            log.error("stdout cannot be written: %s", error)
        self._broken = True
        self._rest = b""
        self._outlet.discard()
        if self._loop is not None:
            try:
                self._loop.call_soon_threadsafe(self._on_broken)
            except RuntimeError:
                log.debug("the loop was closed before the wire broke")


def _is_stream(fd: int) -> bool:
    """Whether it is a pipe or a socket, for which readiness means something."""
    mode = os.fstat(fd).st_mode
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)


def wait_until(fd: int, event: int) -> None:
    """Wait until ``fd`` is ready for ``event`` (of ``select.poll``) or has hung up."""
    poll = select.poll()
    poll.register(fd, event)
    poll.poll()


def somebody_reads(fd: int) -> bool:
    """Whether what is written to ``fd`` can still be read. True where the system cannot tell."""
    poll = select.poll()
    poll.register(fd, 0)
    return not any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))


def watch_readers(fd: int, loop: Loop, on_gone: Callable[[], None]) -> None:
    """Call ``on_gone`` in ``loop`` when nobody can read ``fd`` any more. Costs a sleeping daemon thread."""

    def watch() -> None:
        poll = select.poll()
        poll.register(fd, 0)
        if any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll()):
            try:
                loop.call_soon_threadsafe(on_gone)
            except RuntimeError:
                log.debug("the loop was closed before the last reader went")

    threading.Thread(target=watch, name="wire-watch", daemon=True).start()


def _nothing() -> None:
    pass
