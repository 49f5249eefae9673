"""A connection to a front in the same process: bytes are handed over in its event loop, and no descriptor is used."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from mlx_sidecar.front.wire.mailbox import Mailbox
from mlx_sidecar.front.wire.reader import Loop

_DRAIN_BYTES = 256 * 1024  # handed over at once, as the real writer does


class MemoryWire:
    """Both ends of it: ``front.connect(wire.reader, wire.open_writer)`` and, for the host, the methods here.

    ``heard`` gets the front's bytes, in its loop. The host's methods may be called before the connection runs, and in
    any thread; they take effect in the front's loop, in their order.
    """

    def __init__(self, heard: Callable[[bytes], None]) -> None:
        self.reader = MemoryReader()
        self._heard = heard
        self._writer: MemoryWriter

    def open_writer(self, mailbox: Mailbox) -> MemoryWriter:
        self._writer = MemoryWriter(mailbox, self._heard)
        return self._writer

    def write(self, data: bytes) -> None:
        self.reader.post(lambda: self.reader.take(data))

    def end_input(self) -> None:
        """The host writes nothing more."""
        self.reader.post(lambda: self.reader.take(None))

    def stop_reading(self) -> None:
        """Let the front's messages wait until the host reads again."""
        self.reader.post(lambda: self._writer.hold(True))

    def go_on_reading(self) -> None:
        self.reader.post(lambda: self._writer.hold(False))

    def hang_up(self) -> None:
        """The host reads nothing more, ever."""
        self.reader.post(lambda: self._writer.hang_up())


class MemoryReader:
    """The front's end of what the host writes."""

    def __init__(self) -> None:
        self._early: list[Callable[[], None]] = []
        self._chunks: deque[bytes | None] = deque()  # None is the end of input
        self._held = False
        self._loop: Loop | None = None
        self._on_chunk: Callable[[bytes], None]
        self._on_end: Callable[[], None]

    def attach(self, loop: Loop, on_chunk: Callable[[bytes], None], on_end: Callable[[], None]) -> None:
        self._on_chunk, self._on_end = on_chunk, on_end
        self._loop = loop
        for act in self._early:
            loop.call_soon(act)

    def hold(self, held: bool) -> None:
        self._held = held
        self._hand_over()

    def post(self, act: Callable[[], None]) -> None:
        """Have the host's ``act`` take effect in the loop."""
        if self._loop is None:
            self._early.append(act)
        else:
            self._loop.call_soon_threadsafe(act)

    def take(self, chunk: bytes | None) -> None:
        self._chunks.append(chunk)
        self._hand_over()

    def _hand_over(self) -> None:
        while self._chunks and not self._held:
            chunk = self._chunks.popleft()
            if chunk is None:
                self._on_end()
            else:
                self._on_chunk(chunk)


class MemoryWriter:
    """The front's end of what the host reads."""

    def __init__(self, mailbox: Mailbox, heard: Callable[[bytes], None]) -> None:
        self.frame: Callable[[bytes], bytes] | None = None
        self.corked = False
        self.broken = False
        self.lost = False
        self.somebody_reads = True
        self._mailbox = mailbox
        self._heard = heard
        self._held = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._on_broken: Callable[[], None]
        self._on_gone: Callable[[], None] = lambda: None
        mailbox.on_work = self._on_work

    def start(self, loop: Loop, on_broken: Callable[[], None]) -> None:
        assert isinstance(loop, asyncio.AbstractEventLoop)
        self._loop, self._on_broken = loop, on_broken
        self._on_work()

    def watch_readers(self, on_gone: Callable[[], None]) -> None:
        self._on_gone = on_gone

    def flush(self) -> None:
        while self.frame is not None and not self._held and (bodies := self._mailbox.drain(_DRAIN_BYTES)):
            self._hand_over(b"".join(map(self.frame, bodies)))
        if self._loop is not None and (due := self._mailbox.next_due) is not None:
            self._loop.call_at(due, self.flush)  # the clock of the mailbox is the loop's

    def _hand_over(self, data: bytes) -> None:
        if self.somebody_reads:
            self._heard(data)
        elif not self.broken:
            self.broken = True
            self._mailbox.discard()
            self._on_broken()

    def close(self, timeout_s: float) -> bool:
        self._mailbox.close()
        self.flush()
        return not (self._held or self.broken)

    def hold(self, held: bool) -> None:
        self._held = held
        self.flush()

    def hang_up(self) -> None:
        self.somebody_reads, self._held = False, False
        self._on_gone()

    def _on_work(self) -> None:
        if self._loop is not None and not self.corked:
            self._loop.call_soon_threadsafe(self.flush)
