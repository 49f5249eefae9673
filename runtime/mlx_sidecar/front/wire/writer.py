"""The writer alone writes the wire, from one thread at a time."""

from __future__ import annotations

import errno
import logging
import os
import select
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Protocol

from .reader import Loop
from .stdio import is_stream, somebody_reads, wait_until

_DRAIN_BYTES = 256 * 1024  # one write; text that arrives meanwhile can still be merged
_LONGEST_WAIT_S = 3600.0  # beyond some centuries a lock refuses to wait

log = logging.getLogger(__name__)


class Outlet(Protocol):
    """The source of a writer's messages: the mailbox."""

    on_work: Callable[[], None]

    @property
    def next_due(self) -> float | None: ...
    def drain(self, limit_bytes: int) -> list[bytes]: ...
    def close(self) -> None: ...
    def discard(self) -> None: ...


class Writer:
    """The only writer to the host. ``frame`` turns a body into wire bytes; nothing is sent before it is set.

    The event loop itself writes small messages that cannot block, at the end of the turn that made them, because that
    saves a thread switch per answer. A daemon thread writes everything else, all that waits in one write.
    """

    # The thread that holds _pen drains and writes, so bytes leave in the order they were drained in. The loop never
    # waits for the pen: if the writer's thread has it, the bell makes that thread look again.

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
        self._lost = False
        self._written = 0  # bytes, by the thread
        self._loop: Loop | None = None
        self._loop_thread = 0
        self._on_broken: Callable[[], None] = _nothing
        self._poll = select.poll()
        self._poll.register(fd, select.POLLOUT)
        self._promises_room = is_stream(fd)
        self._thread = threading.Thread(target=self._run, name="wire-writer", daemon=True)
        outlet.on_work = self._on_work

    @property
    def broken(self) -> bool:
        """Nothing more can be written."""
        return self._broken

    @property
    def lost(self) -> bool:
        """A write failed although there may be a reader, so that an answer is missing there."""
        return self._lost

    def start(self, loop: Loop, on_broken: Callable[[], None]) -> None:
        """In the thread of ``loop``. ``on_broken`` is called there, once, when a write finds no reader."""
        self._loop, self._on_broken = loop, on_broken
        self._loop_thread = threading.get_ident()
        self._thread.start()
        self._on_work()

    @property
    def somebody_reads(self) -> bool:
        """Whether a process can still read. True where the system cannot tell."""
        return somebody_reads(self.fd)

    def watch_readers(self, on_gone: Callable[[], None]) -> None:
        """Once started: call ``on_gone`` in the loop when no process can read any more. Costs a daemon thread."""
        threading.Thread(target=self._watch_readers, args=[on_gone], name="wire-watch", daemon=True).start()

    def _watch_readers(self, on_gone: Callable[[], None]) -> None:
        assert self._loop is not None
        poll = select.poll()
        poll.register(self.fd, 0)
        if any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll()):
            try:
                self._loop.call_soon_threadsafe(on_gone)
            except RuntimeError:
                log.debug("the loop was closed before the last reader went")

    def flush(self) -> None:
        """In the loop: write all that waits if that cannot block, else leave it to the thread."""
        if self.frame is None:
            return
        if not self._pen.acquire(blocking=False):
            self._bell.put(None)
            return
        try:
            done = self._write_small()
        except MemoryError as error:
            log.exception("stdout cannot be written")
            self._give_up(error)
            return
        finally:
            self._pen.release()
        if not done:
            self._bell.put(None)

    def close(self, timeout_s: float) -> bool:
        """Write all that waits, as long as something of it is taken every ``timeout_s``, and stop.

        False if something could not be written.
        """
        self._outlet.close()
        self._closing = True
        self._bell.put(None)
        before = -1
        while self._thread.is_alive() and self._written != before:
            before = self._written
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
        """Whether PIPE_BUF bytes can be written without waiting, as poll promises for pipes and sockets."""
        return self._poll.poll(0) == [(self.fd, select.POLLOUT)]

    def _run(self) -> None:
        try:
            self._serve()
        except BaseException as error:
            log.exception("stdout cannot be written")
            self._give_up(error)

    def _serve(self) -> None:
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
            wait_s = None if due is None or self._closing else min(max(0.0, due - self._clock()), _LONGEST_WAIT_S)
            self._bell.get(timeout=wait_s)

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
                        count = os.write(self.fd, view[written : written + _DRAIN_BYTES])
                        written += count
                        self._written += count
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
        self._give_up(error)

    def _give_up(self, error: BaseException) -> None:
        self._lost = not (isinstance(error, OSError) and error.errno in (errno.EPIPE, errno.ECONNRESET))
        self._broken = True
        self._rest = b""
        self._outlet.discard()
        if self._loop is not None:
            try:
                self._loop.call_soon_threadsafe(self._on_broken)
            except RuntimeError:
                log.debug("the loop was closed before the wire broke")


def _nothing() -> None:
    pass
