"""The connection holds one engine process on the event loop, from its attachment to its end."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable

from ...containment import LEAVING, contained
from ...link.codec import Decoder, Unreadable, encode
from ...link.heartbeat_page import Snapshot
from ...link.messages import ToEngine, ToFront
from .engine_process import EngineProcess
from .restart_policy import LIFE_S, Life
from .watchdog import Watchdog

START_BOUND_S = 120.0  # until Ready: a backend is imported, from a cold disk at worst
END_BOUND_S = 5.0  # after a SIGKILL; a process that is still there hangs in the kernel and cannot be waited for
_READ_BYTES = 16 * 1024  # some 600 events, after which the event loop gets a turn
_LONGEST_NAP_S = 0.02
_LONGEST_LOOK_S = 1.0

log = logging.getLogger(__name__)


class EngineConnection(asyncio.BufferedProtocol):
    """The front's end of one link, with the process and the heartbeat page behind it.

    The messages of ``first`` are sent on connection. ``receive`` gets each message of the engine. ``closed`` is called
    once, when the link closes: the engine died or was killed. An engine that is ready and has work must show progress
    within ``stall_after_s``, or within the bound on its page, else it is killed as stalled.
    """

    def __init__(
        self,
        engine: EngineProcess,
        first: Callable[[], Iterable[ToEngine]],
        receive: Callable[[EngineConnection, ToFront | Unreadable], None],
        closed: Callable[[EngineConnection], None],
        stall_after_s: float,
    ) -> None:
        self._engine = engine
        self._stall_after_s = stall_after_s
        self._first = first
        self._receive = receive
        self._closed = closed
        self._decoder: Decoder[ToFront] = Decoder(ToFront)  # type: ignore[arg-type]  # a union is not a type[T]
        self._buffer = bytearray(_READ_BYTES)
        self._transport: asyncio.Transport | None = None
        self._watchdog = Watchdog(START_BOUND_S)
        self._sent = 0
        self._attached_at = time.monotonic()
        self._because: str | None = None
        self._ready = self._gone = False
        self.stalled = False
        self.decoded = False  # a token
        self.loaded = False  # a model

    async def attach(self) -> None:
        await asyncio.get_running_loop().create_connection(lambda: self, sock=self._engine.link)

    @property
    def takes_work(self) -> bool:
        """Whether the engine has said Ready and neither left nor hangs, as far as is known."""
        return self._ready and self._because is None and self._open

    @property
    def because(self) -> str:
        """Why the engine is gone: the reason of ``kill_because``, or how its process ended."""
        return self._because or self._engine.exit_reason

    @property
    def forced(self) -> bool:
        """Whether a signal from elsewhere ended the engine, by all signs, rather than its own work."""
        return self._because is None and self._engine.forced

    @property
    def starved(self) -> bool:
        """Whether the kernel killed the engine for want of memory, by all signs."""
        return self._because is None and self._engine.starved

    @property
    def page(self) -> Snapshot:
        return self._engine.page.read()

    @property
    def watchdog(self) -> Watchdog:
        return self._watchdog

    @property
    def life(self) -> Life:
        """How useful the engine was, as seen on this connection."""
        if self.decoded or time.monotonic() - self._attached_at >= LIFE_S:
            return Life.USEFUL
        return Life.LOADED if self.loaded else Life.USELESS

    @property
    def _open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def write(self, message: ToEngine) -> None:
        """Queue ``message``; does nothing before the connection is made (``first`` is sent then) or after it closed.

        Raises OverflowError, UnicodeEncodeError or a msgspec error as ``encode`` does.
        """
        self.write_frame(encode(message))

    def write_frame(self, frame: bytes) -> None:
        """``write`` for a message that is encoded already."""
        if self._transport is not None and self._open:
            self._transport.write(frame)
            self._sent += 1

    def became_ready(self) -> None:
        """Note that the engine said Ready: from now on ``stall_after_s`` bounds its silence."""
        self._ready = True
        self._watchdog = Watchdog(self._stall_after_s)

    def kill_because(self, because: str) -> None:
        """Kill the engine for a reason that its exit status will not tell."""
        self._because = self._because or because
        self._engine.kill()
        self._close()

    async def wait_ended(self) -> Snapshot:
        """Kill the engine; return its last heartbeat once it ended, or after ``END_BOUND_S``. Never blocks the loop."""
        self._close()
        self._engine.kill()
        nap_s, until_s = 0.001, time.monotonic() + END_BOUND_S
        while not self._engine.ended:
            if time.monotonic() >= until_s:
                ended = self._because or "it closed its link"
                self._because = f"{ended}, and has not gone {END_BOUND_S:g} s after SIGKILL"
                break
            # Polled, because a thread that waits for a process stuck in the kernel is stuck as well.
            await asyncio.sleep(nap_s)
            nap_s = min(2 * nap_s, _LONGEST_NAP_S)
        last = self.page
        self._engine.page.close()
        return last

    def _watch(self) -> None:
        if not self._open:
            return
        # First, so that nothing below can end the watch.
        asyncio.get_running_loop().call_later(min(_LONGEST_LOOK_S, self._stall_after_s / 8), self._watch)
        seen = self.page
        due = self._sent if self._ready else seen.taken + 1  # before Ready, that message is owed
        if self._watchdog.look(seen, due, time.monotonic()):
            self.stalled = True
            self.kill_because(self._stall(seen))
        elif self._gone:  # yet the link is open: a child of the engine holds it
            self._close()
        self._gone = self._engine.ended  # its last messages are read before the next look

    def _stall(self, seen: Snapshot) -> str:
        bound_s = f"{self._watchdog.bound_s:g} s"
        if seen.operating or seen.ids:
            return f"a device operation has outlasted its bound of {bound_s}"
        return f"it has taken no message for {bound_s}" if self._ready else f"it has not become ready within {bound_s}"

    def _close(self) -> None:
        if self._transport is None:
            self._engine.link.close()
        else:
            self._transport.abort()

    # Callbacks of asyncio, which closes the connection if one raises.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._watch()
        try:
            for message in self._first():
                self.write(message)
        except LEAVING:
            raise
        except BaseException as error:
            log.exception("an engine could not be told what to do")
            self.kill_because(f"it could not be told what to do: {error}")

    def get_buffer(self, sizehint: int) -> bytearray:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        try:
            messages = self._decoder.feed(bytes(self._buffer[:nbytes]))
        except LEAVING:
            raise
        except BaseException as error:  # noqa: BLE001 - the engine is killed for it
            self.kill_because(f"it said what cannot be read: {error}")
            return
        for message in messages:
            with contained(log, "a message of the engine could not be taken in"):
                self._receive(self, message)

    def connection_lost(self, exc: Exception | None) -> None:
        self._closed(self)
