"""One engine process that is attached to the event loop, from there to its end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import msgspec

from .codec import Decoder, LinkCorrupt, encode
from .messages import ToEngine, ToFront
from .page import Snapshot
from .process import EngineProcess
from .restarts import LIFE_S, Life
from .watchdog import Watchdog

START_BOUND_S = 120.0  # until it takes work: a backend is imported, from a cold disk at worst
END_BOUND_S = 5.0  # after a SIGKILL; one that is still there then sits in the system and cannot be waited for
_READ_BYTES = 16 * 1024  # some 600 events: after so many the loop looks at what else there is to do
_LONGEST_NAP_S = 0.02


class AttachedEngine:
    """``receive`` gets its messages; ``closed`` is called once, when its link is: by its death, or by ``condemn``."""

    def __init__(
        self,
        engine: EngineProcess,
        receive: Callable[[AttachedEngine, ToFront], None],
        closed: Callable[[AttachedEngine], None],
    ) -> None:
        self._engine = engine
        self._receive = receive
        self._closed = closed
        self._transport: asyncio.Transport
        self._watchdog = Watchdog(START_BOUND_S)
        self._sent = 0
        self._attached_at = time.monotonic()
        self._because: str | None = None
        self.ready = False  # it has said so
        self.stalled = False
        self.decoded = False  # a token
        self.loaded = False  # a model

    async def attach(self) -> None:
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_connection(
            lambda: _Link(lambda message: self._receive(self, message), self.condemn, lambda: self._closed(self)),
            sock=self._engine.link,
        )

    @property
    def takes_work(self) -> bool:
        return self.ready and self._because is None

    @property
    def because(self) -> str:
        """Why it is no longer there: what it was condemned for, or how it ended."""
        return self._because or self._engine.exit_reason

    @property
    def page(self) -> Snapshot:
        return self._engine.page.read()

    @property
    def watchdog(self) -> Watchdog:
        return self._watchdog

    def write(self, message: ToEngine) -> None:
        self._sent += 1
        self._transport.write(encode(message))

    def became_ready(self, floor_s: float) -> None:
        """It takes work: from here on nothing may stand still for longer than ``floor_s``."""
        self.ready = True
        self._watchdog = Watchdog(floor_s)

    def look(self, now: float) -> None:
        """Condemn it if it hangs, or is gone although its link is open: a child of its may hold that."""
        seen = self.page
        # Before it is ready it owes us that message.
        if self._watchdog.look(seen, self._sent if self.ready else seen.taken + 1, now):
            self.stalled = True
            self.condemn(self._stall(seen))
        elif self._engine.ended:
            self._transport.abort()

    def condemn(self, because: str) -> None:
        """End it, for a reason that its exit status will not tell."""
        if self._because is None:
            self._because = because
        self._engine.kill()
        self._transport.abort()

    def _stall(self, seen: Snapshot) -> str:
        bound_s = f"{self._watchdog.bound_s:g} s"
        if seen.operating:
            return f"a device operation has outlasted its bound of {bound_s}"
        return f"it has taken no message for {bound_s}" if self.ready else f"it has not become ready within {bound_s}"

    def life(self) -> Life:
        """What came of it, as far as can be told from here."""
        if self.decoded or time.monotonic() - self._attached_at >= LIFE_S:
            return Life.FRUITFUL
        return Life.LOADED if self.loaded else Life.BARREN

    async def buried(self) -> Snapshot:
        """Kill it, wait for its end, but not for ever, and take what it noted last. The loop keeps turning."""
        self._transport.abort()
        self._engine.kill()
        nap_s, until_s = 0.001, time.monotonic() + END_BOUND_S
        while not self._engine.ended and time.monotonic() < until_s:
            # Asked again and again: a wait in a thread could be stuck there with the process.
            await asyncio.sleep(nap_s)
            nap_s = min(2 * nap_s, _LONGEST_NAP_S)
        if not self._engine.ended:
            self._because = f"{self._because or 'it closed its link'}; it has not ended {END_BOUND_S:g} s after SIGKILL"
        last = self.page
        self._engine.page.close()
        return last


class _Link(asyncio.BufferedProtocol):
    """The asyncio end of the socket."""

    def __init__(
        self, receive: Callable[[ToFront], None], condemn: Callable[[str], None], closed: Callable[[], None]
    ) -> None:
        self._decoder: Decoder[ToFront] = Decoder(ToFront)  # type: ignore[arg-type]  # a union is not a type[T]
        self._buffer = bytearray(_READ_BYTES)
        self._receive = receive
        self._condemn = condemn
        self._closed = closed

    def get_buffer(self, sizehint: int) -> bytearray:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        try:
            messages = self._decoder.feed(bytes(self._buffer[:nbytes]))
        except (msgspec.MsgspecError, LinkCorrupt) as error:
            self._condemn(f"it said what cannot be read: {error}")
            return
        for message in messages:
            self._receive(message)

    def connection_lost(self, exc: Exception | None) -> None:
        self._closed()
