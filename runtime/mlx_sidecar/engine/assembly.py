"""``assemble`` puts the parts of an engine together."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from ..link.engine_config import EngineConfig
from ..link.heartbeat_page import HeartbeatPage
from ..link.messages import Evicted
from ..observe.trace import Trace
from .adapters.adapters import Adapters
from .admission import Admission
from .cache.prefix_cache import PrefixCache
from .completion import Completion
from .core.instrumentation import Instrumentation
from .core.memory_ledger import MemoryLedger
from .core.preparer import Preparer
from .grammar.grammars import Grammars
from .heartbeat import Heartbeat, StallDeadline
from .inbox import Inbox
from .loop import Engine
from .outbox import Outbox
from .prefix.cache_operations import CacheOperations
from .prefix.pins import Pins
from .prefix.prefix_coalescing import PrefixCoalescing
from .prefix.stored_prefixes import StoredPrefixes
from .preparation import Preparation
from .requests import Requests
from .resident_models import Backend, ResidentModels
from .scheduling.scheduler import Limits, Scheduler
from .stats import Stats


def assemble(
    outbox: Outbox,
    inbox: Inbox,
    backend: Backend,
    limits: Limits,
    limit_bytes: int,
    trace: Trace | None = None,
    *,
    prefix_cache: PrefixCache | None = None,
    page: HeartbeatPage | None = None,
    stall_after_s: float = EngineConfig.stall_after_s,
    preparers: Iterable[Preparer] = (),
    clock: Callable[[], float] = time.monotonic,
) -> Engine:
    """Return an engine that may hold ``limit_bytes``.

    The front reads its ``page``, which by default nothing reads; its deadlines are at least ``stall_after_s`` seconds.
    ``preparers`` are asked after the engine's own. ``clock`` gives seconds.
    """
    ledger = MemoryLedger(limit_bytes)
    scheduler = Scheduler(limits, ledger)
    instrumentation = Instrumentation(trace)
    models = ResidentModels(
        backend,
        ledger,
        instrumentation.metrics,
        scheduler.streams,
        lambda model: outbox.send([Evicted(model)]),
        prefix_cache,
    )
    pins = Pins(models, prefix_cache)
    operations = CacheOperations(models, prefix_cache, outbox.send)
    grammars = Grammars(models, ledger, inbox.put)
    adapters = Adapters(models, ledger, prefix_cache, post=inbox.put, send=outbox.send, clock=clock)
    own: list[Preparer] = [pins, grammars, adapters]
    if prefix_cache is not None:
        own.append(StoredPrefixes(models, prefix_cache, operations))
        own.append(PrefixCoalescing(scheduler, models, prefix_cache))
    preparation = Preparation(scheduler, [*own, *preparers])
    admission = Admission(scheduler, models, instrumentation, preparation)
    completion = Completion(scheduler, models, admission, instrumentation, preparation, pins)
    heartbeat = Heartbeat(page or HeartbeatPage.create(), models.in_flight)
    deadline = StallDeadline(stall_after_s)
    requests = Requests(
        outbox=outbox,
        scheduler=scheduler,
        models=models,
        preparation=preparation,
        admission=admission,
        completion=completion,
        operations=operations,
        grammars=grammars,
        adapters=adapters,
        stats=Stats(instrumentation, scheduler, models, ledger, backend),
        instrumentation=instrumentation,
        heartbeat=heartbeat,
        deadline=deadline,
        clock=clock,
    )
    return Engine(
        inbox=inbox,
        outbox=outbox,
        backend=backend,
        scheduler=scheduler,
        models=models,
        preparation=preparation,
        admission=admission,
        completion=completion,
        requests=requests,
        instrumentation=instrumentation,
        heartbeat=heartbeat,
        deadline=deadline,
        clock=clock,
    )
