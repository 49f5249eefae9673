"""Answers: one generation, carried from the sidecar to its client, streamed or whole.

Every answer ends in one of three ways: with all that its surface has for a whole one, with the surface's error, or with
a client that left. The first two are written exactly once.
"""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterable, Mapping
from time import monotonic
from typing import Any

import anyio
from anyio.abc import TaskGroup

from mlx_sidecar_client import GenerateResult, RpcError, SidecarLost
from mlx_sidecar_client.protocol.generate_result import Logprob

from ..surfaces.events import Text, events_of
from ..surfaces.faults import Fault, Refused
from ..surfaces.surface import Encoder, Surface, WayOf
from .exchange import ClientLeft, Exchange
from .faults import INTERNAL, ending_of, fault_of
from .records import DISCONNECTED
from .source import Source

log = logging.getLogger("mlx_sidecar_gateway")

FIRST_PING_S = 0.1  # until then nothing is sent, so that a refusal can still have its own status
_LAST_WORDS_S = 1.0  # for the end of an answer that was stopped to reach a client that may not read

Generate = Callable[[], Awaitable[Source]]
"""Makes the generation, which begins when it is first used; raises as ``Sidecar.generate``, or ``Refused``."""


class Answer(ABC):
    """A generation on its way to its client; whatever ends it also ends the generation.

    ``outcome`` is, at the end, a finish reason, the kind of a fault, or ``DISCONNECTED``.
    """

    def __init__(
        self, exchange: Exchange, generate: Generate, names: Mapping[str, str], way_of: WayOf | None = None
    ) -> None:
        self._exchange = exchange
        self._generate = generate
        self._names, self._way_of = names, way_of
        self._carrying, self._closing = anyio.CancelScope(), anyio.CancelScope()
        self._stopped: Fault | None = None
        self._record = exchange.record
        self.outcome = DISCONNECTED

    def stop(self, fault: Fault) -> None:
        """End the answer with ``fault``, now."""
        self._stopped = fault
        self._carrying.cancel()
        self._closing.deadline = anyio.current_time() + _LAST_WORDS_S

    async def run(self) -> None:
        """Carry the answer to its end; returns early if the client leaves."""
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._leave_with_client, tasks.cancel_scope)
                self._accompany(tasks)
                ending = await self._ending()
                with self._closing:
                    await self._close(ending)
                    self._end_as(ending)
                tasks.cancel_scope.cancel()
        except* ClientLeft:
            pass  # some servers tell a writer of it before they tell ``disconnect``

    async def _leave_with_client(self, everything: anyio.CancelScope) -> None:
        await self._exchange.disconnect()
        everything.cancel()

    async def _ending(self) -> GenerateResult | Fault:
        with self._carrying:
            try:
                async with await self._generate() as stream:
                    try:
                        return ending_of(await self._carry(stream))
                    finally:
                        self._record_generation(stream)
            except Refused as refused:
                return refused.fault
            except (RpcError, SidecarLost) as error:
                return fault_of(error, self._names, self._way_of)
            except ClientLeft:
                raise
            except Exception:
                log.exception("request %s: a bug of the gateway", self._exchange.id)
                return INTERNAL
        assert self._stopped is not None
        return self._stopped

    def _end_as(self, ending: GenerateResult | Fault) -> None:
        if isinstance(ending, GenerateResult):
            self.outcome = ending.finish_reason
        else:
            self.outcome = ending.kind
            self._record.fault(ending)

    def _record_generation(self, stream: Source) -> None:
        if stream.has_result:
            self._record.result(stream.result)
        else:
            self._record.tokens = stream.delivered_tokens

    def _accompany(self, tasks: TaskGroup) -> None:  # noqa: B027  # nothing to do is an answer's usual case
        """Start what goes on beside the answer."""

    @abstractmethod
    async def _carry(self, stream: Source) -> GenerateResult:
        """Take the generation from the sidecar to its result."""

    @abstractmethod
    async def _close(self, ending: GenerateResult | Fault) -> None:
        """Write the end."""


class StreamedAnswer(Answer):
    """An answer whose deltas are passed on as they come.

    Deltas, pings and the end take turns at writing. There is no queue: the next deltas are taken when the client has
    taken the last ones, and the stream's window holds the engine back until then. While nothing is in the way they are
    written in the turn of the event loop in which they were read, because a switch of tasks costs more than the rest.
    """

    def __init__(
        self,
        exchange: Exchange,
        generate: Generate,
        names: Mapping[str, str],
        *,
        surface: Surface,
        encoder: Encoder,
        media_type: str,
        ping_s: float,
        way_of: WayOf | None = None,
    ) -> None:
        super().__init__(exchange, generate, names, way_of)
        self._surface = surface
        self._encoder = encoder
        self._media_type = media_type
        self._ping_s = ping_s
        self._turn = asyncio.Lock()
        self._unwritten = b""  # of an answer that was stopped while it waited for its client
        self._last_write_s = monotonic()

    def _accompany(self, tasks: TaskGroup) -> None:
        tasks.start_soon(self._ping)

    async def _carry(self, stream: Source) -> GenerateResult:
        exchange, record = self._exchange, self._record

        def pass_on(deltas: list[dict[str, Any]]) -> bool:
            parts = exchange.parts
            if parts is None or not parts.are_taken or self._turn.locked():
                return False
            now_s = monotonic()
            record.part(stream.delivered_tokens, now_s)
            if data := self._encoded(deltas):
                parts.write(data)
                record.sent_bytes += len(data)
                self._last_write_s = now_s
            return True

        while deltas := await stream.take_plain(pass_on):
            record.part(stream.delivered_tokens, monotonic())
            if data := self._encoded(deltas):
                self._unwritten = data
                await self._write(data)
                self._unwritten = b""
        return stream.result

    def _encoded(self, deltas: Iterable[Mapping[str, Any]]) -> bytes:
        encode = self._encoder.delta
        return b"".join([encode(event) for delta in deltas for event in events_of(delta)])

    async def _ping(self) -> None:
        due_s, silent_s = min(FIRST_PING_S, self._ping_s), 0.0
        while True:
            await anyio.sleep(due_s - silent_s)
            due_s, silent_s = self._ping_s, monotonic() - self._last_write_s
            if silent_s >= due_s or not self._exchange.is_begun:
                if not self._turn.locked():  # a writer that waits for the client needs no ping
                    await self._write(self._encoder.ping())
                    self._record.pings += 1
                silent_s = 0.0

    async def _write(self, data: bytes) -> None:
        await self._turn.acquire()
        try:
            if not self._exchange.is_begun:
                await self._begin()
            await self._exchange.write(data)
            self._last_write_s = monotonic()
        finally:
            self._turn.release()

    async def _begin(self) -> None:
        if not self._exchange.is_begun:
            await self._exchange.begin(self._media_type)

    async def _close(self, ending: GenerateResult | Fault) -> None:
        await self._turn.acquire()  # for good: nothing follows the end
        if isinstance(ending, GenerateResult):
            await self._begin()
            await self._exchange.finish(self._encoder.end(ending))
        elif self._exchange.is_begun:
            await self._exchange.finish(self._unwritten + self._encoder.error(ending))
        else:
            await refuse(self._exchange, self._surface, ending)


class WholeAnswer(Answer):
    """An answer that is sent when it is whole."""

    def __init__(
        self,
        exchange: Exchange,
        generate: Generate,
        names: Mapping[str, str],
        *,
        surface: Surface,
        whole: Callable[[GenerateResult], bytes],
        with_logprobs: bool,
        way_of: WayOf | None = None,
    ) -> None:
        super().__init__(exchange, generate, names, way_of)
        self._surface = surface
        self._whole = whole
        self._with_logprobs = with_logprobs

    async def _carry(self, stream: Source) -> GenerateResult:
        if not self._with_logprobs:
            return await stream
        # The result has those of reasoning and calls as well, and only deltas tell which are which.
        entries: list[Logprob] = []
        while deltas := await stream.take_plain():
            for delta in deltas:
                for event in events_of(delta):
                    if isinstance(event, Text):
                        entries += [Logprob.model_validate(entry, extra="ignore") for entry in event.logprobs or ()]
        return stream.result.model_copy(update={"logprobs": entries})

    async def _close(self, ending: GenerateResult | Fault) -> None:
        if isinstance(ending, GenerateResult):
            await self._exchange.answer(200, self._whole(ending))
        else:
            await refuse(self._exchange, self._surface, ending)


async def refuse(exchange: Exchange, surface: Surface, fault: Fault) -> None:
    """Answer with the fault's status and the surface's error body."""
    status = surface.statuses.get(fault.kind, fault.status)
    await exchange.refuse(status, surface.fault(fault), fault)
