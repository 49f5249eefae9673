"""One engine process that is attached to the event loop, from there to its end."""

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

START_BOUND_S = 120.0  # until it takes work: a backend is imported, from a cold disk at worst
END_BOUND_S = 5.0  # after a SIGKILL; one that is still there then sits in the system and cannot be waited for
_READ_BYTES = 16 * 1024  # some 600 events: after so many the loop looks at what else there is to do
_LONGEST_NAP_S = 0.02
_LONGEST_LOOK_S = 1.0

log = logging.getLogger(__name__)


class EngineConnection(asyncio.BufferedProtocol):
    """Our end of the link, with the process and the page behind it.

    It is sent ``first`` as soon as it can be. ``receive`` gets what it says; ``closed`` is called once, when the link
    is: by its death, or because it was condemned. From when it takes work nothing in it may stand still for longer
    than ``stall_after_s``, or what its page allows.
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

    # What is known of it.

    @property
    def takes_work(self) -> bool:
        """It has said that it does, and is not known to hang."""
        return self._ready and self._because is None and self._open

    @property
    def because(self) -> str:
        """Why it is no longer there: what it was condemned for, or how it ended."""
        return self._because or self._engine.exit_reason

    @property
    def forced(self) -> bool:
        """Whether others ended it, it seems, and not what it was doing."""
        return self._because is None and self._engine.forced

    @property
    def starved(self) -> bool:
        """Whether it was the kernel that ended it, for want of memory, as far as can be told."""
        return self._because is None and self._engine.starved

    @property
    def page(self) -> Snapshot:
        return self._engine.page.read()

    @property
    def watchdog(self) -> Watchdog:
        return self._watchdog

    @property
    def life(self) -> Life:
        """What came of it, as far as can be told from here."""
        if self.decoded or time.monotonic() - self._attached_at >= LIFE_S:
            return Life.USEFUL
        return Life.LOADED if self.loaded else Life.USELESS

    @property
    def _open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    # What is done with it.

    def write(self, message: ToEngine) -> None:
        """Queue ``message``; nothing, if it cannot be told any more, or not yet: then it is among the first.

        Raises what ``encode`` raises.
        """
        self.write_frame(encode(message))

    def write_frame(self, frame: bytes) -> None:
        """The same for a message that is encoded already."""
        if self._transport is not None and self._open:
            self._transport.write(frame)
            self._sent += 1

    def became_ready(self) -> None:
        """It has said that it takes work."""
        self._ready = True
        self._watchdog = Watchdog(self._stall_after_s)

    def kill_because(self, because: str) -> None:
        """End it, for a reason that its exit status will not tell."""
        self._because = self._because or because
        self._engine.kill()
        self._close()

    async def wait_ended(self) -> Snapshot:
        """Kill it, wait for its end, but not for ever, and take what it noted last. The loop keeps turning."""
        self._close()
        self._engine.kill()
        nap_s, until_s = 0.001, time.monotonic() + END_BOUND_S
        while not self._engine.ended:
            if time.monotonic() >= until_s:
                ended = self._because or "it closed its link"
                self._because = f"{ended}, and has not gone {END_BOUND_S:g} s after SIGKILL"
                break
            # Asked again and again: who waits for a process that is stuck in the system is stuck as well.
            await asyncio.sleep(nap_s)
            nap_s = min(2 * nap_s, _LONGEST_NAP_S)
        last = self.page
        self._engine.page.close()
        return last

    def _watch(self) -> None:
        if not self._open:
            return
        # First of all: whatever is found now, it is looked at again.
        asyncio.get_running_loop().call_later(min(_LONGEST_LOOK_S, self._stall_after_s / 8), self._watch)
        seen = self.page
        due = self._sent if self._ready else seen.taken + 1  # before it is ready it owes us that message
        if self._watchdog.look(seen, due, time.monotonic()):
            self.stalled = True
            self.kill_because(self._stall(seen))
        elif self._gone:  # and its link is open: a child of its own holds that
            self._close()
        self._gone = self._engine.ended  # what it said last is read before the next look

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

    # The event loop's side. What a callback of a protocol raises, asyncio takes for the end of the connection.

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
        except BaseException as error:  # noqa: BLE001 - it is what the engine is ended for
            self.kill_because(f"it said what cannot be read: {error}")
            return
        for message in messages:
            with contained(log, "a message of the engine could not be taken in"):
                self._receive(self, message)

    def connection_lost(self, exc: Exception | None) -> None:
        self._closed(self)
