"""The intake makes frames into messages, in order; it alone makes the host wait.

A large frame is parsed on a thread, and the frames behind it wait for it. While too much waits to be written no frame
is handled. While any frame waits for these, nothing is read. Messages that cannot be handled yet are kept, and reading
goes on until they are many, because some behind them can be.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import anyio

from mlx_sidecar_protocol.envelope import Batch, Invalid, Message, parse
from mlx_sidecar_protocol.errors import InternalError
from mlx_sidecar_protocol.framing import FrameFault
from mlx_sidecar_protocol.limits import Limits

from ...containment import LEAVING

LARGE_BYTES = 256 * 1024  # of a frame: some milliseconds of parsing
KEPT_LIMIT_BYTES = 256 * 1024  # of messages that cannot be handled yet; beyond it nothing is read

log = logging.getLogger(__name__)

Parsed = Message | Batch | FrameFault


class Intake:
    """The intake of a connection, on its event loop. ``handle`` gets each message and its frame's size in bytes.

    Where it returns False the message is kept, and comes again with ``go_on``, in its order. Until then ``handle`` gets
    those behind it as well, and chooses which of them may be handled first.

    ``wait_for_room`` calls its argument when there may be room again, or returns False if there is room now.
    ``hold`` stops reading, or lets it go on.
    """

    def __init__(
        self,
        limits: Limits,
        handle: Callable[[Parsed, int], bool],
        wait_for_room: Callable[[Callable[[], None]], bool],
        hold: Callable[[bool], None],
    ) -> None:
        self._limits = limits
        self._handle = handle
        self._wait_for_room = wait_for_room
        self._hold = hold
        self._frames: deque[bytes | FrameFault] = deque()
        self._parsed: deque[tuple[Parsed, int]] = deque()  # come before those in _frames
        self._kept: deque[tuple[Parsed, int]] = deque()  # could not be handled yet; come before all others
        self._kept_bytes = 0
        self._busy = False  # with parsing on the thread, or waiting for room
        self._held = False
        self._closed = False
        self._empty = anyio.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="parser")

    def take(self, frames: list[bytes | FrameFault]) -> None:
        """Take in frames cut out of the bytes of the host."""
        self._frames.extend(frames)
        self._go_on()

    def go_on(self) -> None:
        """Handle the messages that were kept, and those behind them."""
        self._parsed.extendleft(reversed(self._kept))
        self._kept.clear()
        self._kept_bytes = 0
        self._go_on()

    def close(self) -> None:
        """Drop all messages that have not been handled."""
        self._closed = True
        for waiting in (self._frames, self._parsed, self._kept):
            waiting.clear()
        self._empty.set()

    async def until_empty(self) -> None:
        """Wait until all that was taken in has been handled."""
        while (self._frames or self._parsed or self._kept or self._busy) and not self._closed:
            self._empty = anyio.Event()
            await self._empty.wait()

    def _go_on(self) -> None:
        while (self._parsed or self._frames) and not (self._blocked or self._closed):
            if self._wait_for_room(self._no_longer_busy):
                self._busy = True
            else:
                self._handle_next()
        if self._held is not self._blocked:
            self._held = self._blocked
            self._hold(self._held)
        self._empty.set()

    @property
    def _blocked(self) -> bool:
        return self._busy or self._kept_bytes > KEPT_LIMIT_BYTES

    def _no_longer_busy(self) -> None:
        self._busy = False
        self._go_on()

    def _handle_next(self) -> None:
        if self._parsed:
            self._pass_on(*self._parsed.popleft())
            return
        frame = self._frames.popleft()
        if isinstance(frame, FrameFault):
            self._pass_on(frame, 0)
        elif len(frame) > LARGE_BYTES:
            self._parse_elsewhere(frame)
        else:
            self._pass_on(_parsed(frame, self._limits), len(frame))

    def _pass_on(self, parsed: Parsed, size_bytes: int) -> None:
        if not self._handle(parsed, size_bytes):
            self._kept.append((parsed, size_bytes))
            self._kept_bytes += size_bytes

    def _parse_elsewhere(self, frame: bytes) -> None:
        self._busy = True
        loop = asyncio.get_running_loop()
        parsing = loop.run_in_executor(self._thread, _parsed, frame, self._limits)
        parsing.add_done_callback(partial(self._take_parsed, len(frame)))

    def _take_parsed(self, size_bytes: int, parsing: asyncio.Future[Message | Batch]) -> None:
        if not self._closed and not parsing.cancelled():
            self._parsed.append((parsing.result(), size_bytes))
        self._no_longer_busy()


def _parsed(frame: bytes, limits: Limits) -> Message | Batch:
    try:
        return parse(frame, limits)
    except LEAVING:
        raise
    except BaseException:
        # For want of memory, most likely. The id is not known, but an answer is owed.
        log.exception("a message could not be parsed")
        return Invalid(None, InternalError())
