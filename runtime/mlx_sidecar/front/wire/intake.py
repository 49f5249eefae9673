"""The intake makes frames into messages, in order; it alone makes the host wait.

A large frame is parsed on a thread, and the frames behind it wait for it. While too much waits to be written no frame
is handled. While any frame waits, nothing is read.
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

log = logging.getLogger(__name__)

Parsed = Message | Batch | FrameFault


class Intake:
    """The intake of a connection, on its event loop. ``handle`` gets each message and its frame's size in bytes.

    Where it returns False the message, and all that is behind it, waits for ``go_on``.

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
        self._kept: tuple[Parsed, int] | None = None  # a message that could not be handled yet
        self._blocked = False
        self._closed = False
        self._empty = anyio.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="parser")

    def take(self, frames: list[bytes | FrameFault]) -> None:
        """Take in frames cut out of the bytes of the host."""
        self._frames.extend(frames)
        if not self._blocked:
            self._go_on()

    def go_on(self) -> None:
        """Handle the message that waits for this, and those behind it."""
        if self._kept is not None and not self._closed:
            kept, self._kept = self._kept, None
            self._pass_on(*kept)
            self._unblock()

    def close(self) -> None:
        """Drop all frames that have not been handled."""
        self._closed = True
        self._frames.clear()
        self._empty.set()

    async def until_empty(self) -> None:
        """Wait until all that was taken in has been handled."""
        while self._frames or self._blocked:
            if self._closed:
                return
            self._empty = anyio.Event()
            await self._empty.wait()

    def _go_on(self) -> None:
        while self._frames and not self._closed and self._kept is None:
            if self._wait_for_room(self._unblock):
                self._block()
                return
            frame = self._frames.popleft()
            if isinstance(frame, bytes) and len(frame) > LARGE_BYTES:
                self._block()
                self._parse_elsewhere(frame)
                return
            self._pass_on(frame if isinstance(frame, FrameFault) else _parsed(frame, self._limits), _size(frame))
        self._empty.set()

    def _pass_on(self, parsed: Parsed, size_bytes: int) -> None:
        if not self._handle(parsed, size_bytes):
            self._kept = parsed, size_bytes
            self._block()

    def _block(self) -> None:
        if not self._blocked:
            self._blocked = True
            self._hold(True)

    def _unblock(self) -> None:
        if self._blocked and self._kept is None:
            self._blocked = False
            self._go_on()
            if not self._blocked:
                self._hold(False)

    def _parse_elsewhere(self, frame: bytes) -> None:
        loop = asyncio.get_running_loop()
        parsing = loop.run_in_executor(self._thread, _parsed, frame, self._limits)
        parsing.add_done_callback(partial(self._take_parsed, len(frame)))

    def _take_parsed(self, size_bytes: int, parsing: asyncio.Future[Message | Batch]) -> None:
        try:
            if not self._closed and not parsing.cancelled():
                self._pass_on(parsing.result(), size_bytes)
        finally:
            self._unblock()


def _size(frame: bytes | FrameFault) -> int:
    return len(frame) if isinstance(frame, bytes) else 0


def _parsed(frame: bytes, limits: Limits) -> Message | Batch:
    try:
        return parse(frame, limits)
    except LEAVING:
        raise
    except BaseException:
        # For want of memory, most likely. The id is not known, but an answer is owed.
        log.exception("a message could not be parsed")
        return Invalid(None, InternalError())
