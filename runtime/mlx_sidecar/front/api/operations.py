"""The operations of version 1: each takes its validated parameters and returns its result or raises an RpcError."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, Literal

import msgspec

from mlx_sidecar_protocol.errors import EngineLost
from mlx_sidecar_protocol.notifications import ProgressParams
from mlx_sidecar_protocol.operations import (
    DetokenizeParams,
    DetokenizeResult,
    DiscoverResult,
    EmptyResult,
    LoadParams,
    LoadResult,
    ModelCard,
    ModelsResult,
    NoParams,
    RenderParams,
    ServerInfo,
    StreamAckParams,
    StreamCancelParams,
    StreamSubscribeParams,
    StreamSubscribeResult,
    TokenizeParams,
    UnloadParams,
    UnloadResult,
)
from mlx_sidecar_protocol.stats import EngineInfo, Health, Histogram, Memory, Queue, StatsResult

from ... import __version__
from ...engine.scheduling.scheduler import Limits as QueueLimits
from ...link import control_messages
from ...link import messages as link
from ..streams.journal import Journal
from ..streams.recovery import Recovery
from ..streams.registry import Streams
from ..supervision.supervisor import Supervisor
from ..wire.context import RequestContext
from .model_catalog import ModelCatalog, OnProgress
from .model_text import Chat
from .offload import object_json, off_loop

HealthStatus = Literal["ok", "starting", "degraded", "failed"]

_STATS_WAIT_S = 1.0  # an engine in the middle of an operation answers after it

SERVER = ServerInfo(name="mlx-sidecar", version=__version__)


class Operations:
    """Everything but ``generate``; one per front. ``notify`` writes a notification."""

    def __init__(
        self,
        instance: str,
        catalog: ModelCatalog,
        streams: Streams,
        recovery: Recovery,
        journal: Journal,
        engine: Supervisor,
        notify: Callable[[str, ProgressParams], None],
    ) -> None:
        self._instance = instance
        self._catalog = catalog
        self._streams = streams
        self._recovery = recovery
        self._journal = journal
        self._engine = engine
        self._notify = notify
        self._started_at = time.monotonic()

    async def load(self, context: RequestContext, params: LoadParams) -> LoadResult:
        with self._progress(params) as on_progress:
            card, _, load_s = await self._catalog.load(params, on_progress)
        return LoadResult(**_card(card).model_dump(), load_s=load_s)

    async def unload(self, context: RequestContext, params: UnloadParams) -> UnloadResult:
        self._recovery.unloading(params.model, force=params.force)
        return UnloadResult(freed_bytes=await self._catalog.unload(params.model, force=params.force))

    async def models(self, context: RequestContext, params: NoParams) -> ModelsResult:
        answer = await self._engine.models()
        return ModelsResult(models=[_card(card) for card in answer.models])

    async def detokenize(self, context: RequestContext, params: DetokenizeParams) -> DetokenizeResult:
        text = await self._catalog.text(params.model)
        return DetokenizeResult(text=await text.decode(params.tokens))

    # TokenizeResult and RenderResult, as JSON: a text of a megabyte is some hundred thousand tokens.

    async def tokenize(self, context: RequestContext, params: TokenizeParams) -> bytes:
        text = await self._catalog.text(params.model)
        how = params.add_special, params.escape_special
        tokens, pieces = await text.tokenize(params.text, *how, pieces=params.pieces)
        return await off_loop(object_json, {"tokens": tokens, "count": len(tokens), "pieces": pieces})

    async def render(self, context: RequestContext, params: RenderParams) -> bytes:
        text = await self._catalog.text(params.model)
        messages = [message.for_template() for message in params.messages]
        options = params.add_generation_prompt, params.template_args, params.escape_special
        chat = Chat(messages, params.tools, *options)
        prompt = await text.render(chat)
        warnings = [msgspec.structs.asdict(each) for each in prompt.warnings] or None
        return await off_loop(object_json, {"text": prompt.text, "tokens": prompt.tokens, "warnings": warnings})

    def stream_cancel(self, context: RequestContext, params: StreamCancelParams) -> EmptyResult:
        self._streams.cancel(params.stream)
        return EmptyResult()

    def stream_subscribe(self, context: RequestContext, params: StreamSubscribeParams) -> StreamSubscribeResult:
        stream = self._streams.find(params.stream)
        last_seq = self._streams.rewind(stream, params.after_seq)
        return StreamSubscribeResult(stream=params.stream, last_seq=last_seq, finish_reason=stream.finish_reason)

    def stream_ack(self, context: RequestContext, params: StreamAckParams) -> EmptyResult:
        self._streams.acknowledge(self._streams.find(params.stream), params.seq)
        return EmptyResult()

    async def stats(self, context: RequestContext, params: NoParams) -> StatsResult:
        answer, health = await self._examine()
        gauges = dict(answer.gauges) if answer else {}
        queue = Queue(
            waiting=int(gauges.pop("waiting", 0)),
            running=int(gauges.pop("running", 0)),
            limit=QueueLimits().waiting,
        )
        memory = _memory(gauges, self._engine.ready)
        gauges |= {
            "streams": len(self._recovery.tasks),
            "held": self._recovery.held,
            "journal_bytes": self._journal.held_bytes,
        }
        return StatsResult(
            server=SERVER,
            instance=self._instance,
            uptime_s=time.monotonic() - self._started_at,
            engine=_engine_info(self._engine),
            health=health,
            queue=queue,
            memory=memory,
            counters={**(answer.counters if answer else {}), **self._recovery.counters},
            gauges=gauges,
            histograms={name: Histogram.of(pairs) for name, pairs in answer.histograms.items()} if answer else {},
        )

    async def _examine(self) -> tuple[control_messages.EngineStats | None, Health]:
        """The engine's own figures, and what their coming or not coming says of its health."""
        engine = self._engine
        if not engine.takes_work:
            return None, self._health("failed" if engine.state == "failed" else "starting", engine.reason)
        try:
            answer = await asyncio.wait_for(engine.stats(), _STATS_WAIT_S)
        except EngineLost as error:
            return None, self._health("starting", error.message)
        except TimeoutError:
            because = f"the engine has not answered for {_STATS_WAIT_S} s: one device operation takes that long"
            return None, self._health("degraded", because)
        if self._recovery.isolating:
            return answer, self._health("degraded", "it is being found out which request ends the engine", answers=True)
        return answer, self._health("ok", engine.reason, answers=True)

    def _health(self, status: HealthStatus, reason: str | None, *, answers: bool = False) -> Health:
        """``status`` beside what the engine's page says, which can be read whatever the engine does."""
        engine, page = self._engine, self._engine.page
        return Health(
            status=status,
            ready=answers and engine.takes_work and page.models > 0,
            restarts=engine.restarts,
            last_device_operation_s=time.monotonic() - page.ended_s if page.operations else None,
            reason=reason,
        )

    def discover(self, context: RequestContext, params: NoParams) -> DiscoverResult:
        return _discovered()

    @contextmanager
    def _progress(self, params: LoadParams) -> Iterator[OnProgress | None]:
        """Tells the host while the block runs: a download outlives a cancel of its request, and then nobody asked."""
        token, running = params.progress, True
        if token is None:
            yield None
            return

        def report(stage: str, done: int, total: int) -> None:
            if running:
                told = ProgressParams(
                    token=token, model=params.model, stage=stage, done_bytes=done, total_bytes=total or None
                )
                self._notify("progress", told)

        try:
            yield report
        finally:
            running = False


def _engine_info(engine: Supervisor) -> EngineInfo:
    told = {
        name: getattr(engine.ready, name, None)
        for name in ("pid", "backend", "device", "numerics", "policy", "versions")
    }
    return EngineInfo(state=engine.state, restarts=engine.restarts, **told)


@cache
def _discovered() -> DiscoverResult:
    from mlx_sidecar_protocol import openrpc  # the schema generator is 20 ms of start-up that few hosts ask for

    return DiscoverResult.model_validate(openrpc.document(__version__))


def _card(card: control_messages.ModelCard) -> ModelCard:
    """The card as hosts see it: what is not known yet is absent."""
    known: dict[str, Any] = {name: value for name in card.__struct_fields__ if (value := getattr(card, name)) != ""}
    if card.state == "loading":
        known = {name: value for name, value in known.items() if value != 0 or name in ("pinned", "streams")}
    return ModelCard(**known)


def _memory(gauges: dict[str, float], ready: link.Ready | None) -> Memory:
    """Takes the device's memory and the models' out of ``gauges``; adds what the system says of both processes."""
    names = {
        "models_bytes": "models_bytes",
        "used_bytes": "active_bytes",
        "peak_bytes": "peak_bytes",
        "cache_bytes": "cache_bytes",
    }
    known = {name: int(gauges.pop(gauge)) for name, gauge in names.items() if gauge in gauges}
    return Memory(
        limit_bytes=ready.memory_limit_bytes if ready else None,
        front_bytes=_resident_bytes(os.getpid()),
        engine_bytes=_resident_bytes(ready.pid) if ready else None,
        **known,
    )


def _resident_bytes(pid: int) -> int | None:
    import psutil  # 36 ms of start-up that only stats needs

    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.NoSuchProcess:
        return None
