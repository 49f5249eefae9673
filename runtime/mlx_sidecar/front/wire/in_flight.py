"""The requests of one connection that run as tasks are kept here, from their start to their one answer."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from importlib import import_module
from threading import get_ident
from typing import Any
from weakref import WeakValueDictionary

import anyio
from anyio.abc import TaskGroup

from mlx_sidecar_protocol.envelope import RequestId
from mlx_sidecar_protocol.errors import Cancelled, DuplicateId, RpcError

from ...containment import contained
from .bounds import Bounds
from .context import RequestContext
from .dispatcher import Outcome, Pending
from .responses import Reply, answer

_SHED_AFTER_S = 0.1
_HEAVY_AT_ONCE = 4  # of one model; each may take many times the size of its request

log = logging.getLogger(__name__)


class InFlight:
    """The running requests of a connection, on its event loop; tasks start within ``running`` only."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._tasks: TaskGroup
        self._open: dict[RequestId, RequestContext] = {}
        self._running: dict[RequestContext, Reply] = {}  # those in _open, and notifications
        self._changed = anyio.Event()  # replaced whenever it is set: something in _running has ended
        self._heavy: WeakValueDictionary[str, anyio.Semaphore] = WeakValueDictionary()  # of the models in use now
        self._shedding = False

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Tasks may be started while the block runs; at its end those that still run are answered as cancelled."""
        with _asyncio_named():
            async with anyio.create_task_group() as self._tasks:
                yield
                self._tasks.cancel_scope.cancel()
        for context in list(self._running):  # a task that was cancelled before its first step
            self._settle(context, Cancelled())

    def refusal(self, id_: RequestId, size_bytes: int) -> RpcError | None:
        """Why request ``id_``, or a notification (None), of ``size_bytes`` cannot be started."""
        if id_ in self._open:
            return DuplicateId()
        return self._bounds.too_many_requests(len(self._running), size_bytes)

    def start(self, context: RequestContext, pending: Pending, reply: Reply, heavy_model: str | None) -> None:
        """Run ``pending`` as a task; ``reply`` gets its answer. Of those with one ``heavy_model`` few run at once."""
        if not context.is_notification:
            self._open[context.id] = context
        self._running[context] = reply
        self._bounds.begun(context.size_bytes)
        self.start_soon(self._run, context, pending, heavy_model)

    def start_soon(self, function: Callable[..., Coroutine[Any, Any, None]], *args: object) -> None:
        """Start a task, from a callback of the loop as well."""
        self._tasks.start_soon(function, *args)

    def cancel(self, id_: RequestId) -> None:
        """Ask request ``id_`` to end, if there is one."""
        running = self._open.get(id_)
        if running is not None:
            running.cancel()

    def cancel_all(self) -> None:
        for context in list(self._running):
            with contained(log, "a request could not be cancelled"):
                context.cancel()

    async def wait_ended(self, but: RequestContext | None = None) -> None:
        """Wait until nothing runs, or nothing but ``but``."""
        while self._running.keys() - {but}:
            await self._changed.wait()

    async def _run(self, context: RequestContext, pending: Pending, heavy_model: str | None) -> None:
        outcome: Outcome = Cancelled()  # unless the handler gets to its end
        try:
            with anyio.CancelScope() as scope:
                if context.enter(scope):
                    outcome = await (pending.run() if heavy_model is None else self._in_turn(pending, heavy_model))
        finally:
            pending.close()
            self._settle(context, outcome)

    async def _in_turn(self, pending: Pending, model: str) -> Outcome:
        # Each model has its own turns, so that one that hangs keeps no other waiting.
        turn = self._heavy.setdefault(model, anyio.Semaphore(_HEAVY_AT_ONCE))
        async with turn:
            room = anyio.Event()
            while self._bounds.wait_for_room(room.set):
                await room.wait()
                room = anyio.Event()
            return self._bounds.too_many_answers() or await pending.run()

    def _settle(self, context: RequestContext, outcome: Outcome) -> None:
        """Give the one answer."""
        reply = self._running.pop(context)
        self._bounds.ended(context.size_bytes)
        if not context.is_notification:
            del self._open[context.id]
        elif isinstance(outcome, RpcError):
            log.info("a notification failed: %s", outcome)
        answer(reply, context.id, outcome, context.sources)
        if not self._shedding and self._bounds.too_many_answers() is not None:
            self._shedding = True
            # Later, because a host that reads may be about to take most of one long answer.
            asyncio.get_running_loop().call_later(_SHED_AFTER_S, self._shed)
        self._changed.set()
        self._changed = anyio.Event()

    def _shed(self) -> None:
        """Refuse the requests that have not begun if too many answers wait, because theirs would come on top."""
        self._shedding = False
        error = self._bounds.too_many_answers()
        if error is None:
            return
        for context in list(self._running):
            with contained(log, "a request could not be refused"):
                context.shed(error)


_NAMED: Counter[int] = Counter()  # connections that run on each thread


@contextmanager
def _asyncio_named() -> Iterator[None]:
    """Tell sniffio, where it is installed, that this thread runs asyncio while any connection runs on it.

    anyio asks sniffio. By itself sniffio sees asyncio inside tasks only, and at a cost; tasks are started from
    callbacks as well.
    """
    try:
        named = import_module("sniffio").thread_local
    except ModuleNotFoundError:
        yield
        return
    thread = get_ident()
    _NAMED[thread] += 1
    named.name = "asyncio"
    try:
        yield
    finally:
        _NAMED[thread] -= 1
        if not _NAMED[thread]:
            del _NAMED[thread]
            named.name = None
