"""One connection: bytes in, answers into the mailbox. Every accepted request is answered exactly once."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Literal

import anyio
from anyio.abc import TaskGroup

from mlx_sidecar_protocol.envelope import (
    Batch,
    Ignored,
    Invalid,
    Message,
    Notification,
    Request,
    RequestId,
    Result,
    encode_error,
    encode_notification,
    parse,
)
from mlx_sidecar_protocol.errors import Cancelled, DuplicateId, Overloaded, RpcError
from mlx_sidecar_protocol.framing import FrameDecoder, FrameFault, encode_frame
from mlx_sidecar_protocol.lifecycle import Lifecycle
from mlx_sidecar_protocol.limits import DEFAULT_LIMITS, Limits
from mlx_sidecar_protocol.operations import (
    CancelRequestParams,
    EmptyResult,
    InitializeParams,
    InitializeResult,
    NoParams,
    ShutdownParams,
)

from .context import RequestContext
from .dispatcher import Dispatcher, Method, Outcome, Pending
from .mailbox import Mailbox
from .named import asyncio_named
from .reader import Reader
from .replies import BatchReply, Nowhere, Reply, body_of
from .stdio import somebody_reads
from .writer import Writer, watch_readers

_OPEN_LIMIT = 4096  # requests with a task of their own; a host that has more is not waiting for answers
_WAITING_LIMIT_BYTES = 16 * 2**20  # answers nobody fetches; beyond that we stop reading requests
_PATIENCE_S = 2.0  # for cancelled requests to end before they are dropped, and for the host to take the last answers
_HOST_GONE_S = 0.2  # the same when nobody waits for them: we have promised to be gone within a second

log = logging.getLogger(__name__)


def _nothing() -> None:
    pass


class Session:
    """Serves ``methods`` and the lifecycle: initialize, initialized, ping, shutdown, exit, $/cancelRequest.

    ``initialize`` makes the result of that request; it may raise an RpcError. ``on_end_of_input`` is called when the
    host can say nothing more and what runs is to end on its own. Everything but the threads of reader
    and writer runs in the event loop's thread.
    """

    def __init__(
        self,
        methods: Iterable[Method[Any]],
        initialize: Callable[[InitializeParams], InitializeResult],
        reader: Reader,
        writer: Writer,
        mailbox: Mailbox,
        framing: Literal["auto", "lines", "headers"] = "auto",
        limits: Limits = DEFAULT_LIMITS,
        on_end_of_input: Callable[[], None] = _nothing,
    ) -> None:
        self._dispatcher = Dispatcher([*self._own_methods(), *methods])
        passive = frozenset(name for name, method in self._dispatcher.methods.items() if method.passive)
        self._life = Lifecycle(passive)
        self._initialize_result = initialize
        self._reader = reader
        self._writer = writer
        self._mailbox = mailbox
        self._limits = limits
        self._host_is_silent = on_end_of_input
        self._decoder = FrameDecoder(framing, limits)
        self._open: dict[RequestId, RequestContext] = {}
        self._running: dict[RequestContext, Reply] = {}  # those in _open, and notifications
        self._changed = anyio.Event()  # replaced whenever it is set: something in _running has ended
        self._over = anyio.Event()
        self._exit_code = 0
        self._patience_s = _PATIENCE_S
        self._input_ended = False
        self._tasks: TaskGroup
        self.initialized = False  # the host has initialized: it wants to hear logs
        self.host_process_id: int | None = None  # what initialize said

    # For the owner of the session.

    async def run(self) -> int:
        """Serve until the host leaves, ``exit`` or ``end``. Returns the exit status; all has been written by then."""
        loop = asyncio.get_running_loop()
        with asyncio_named():
            return await self._serve(loop)

    async def _serve(self, loop: asyncio.AbstractEventLoop) -> int:
        async with anyio.create_task_group() as self._tasks:
            self._writer.start(loop, self._on_broken)
            self._reader.attach(loop, self.receive, self._on_end_of_input)
            await self._over.wait()
            self._cancel_all()
            with anyio.move_on_after(self._patience_s):
                await self._wait_for_running()
            self._tasks.cancel_scope.cancel()
        for context in list(self._running):  # a task that was cancelled before its first step
            self._settle(context, Cancelled())
        self._writer.close(self._patience_s)
        return self._exit_code

    def end(self, exit_code: int, *, host_is_gone: bool = False) -> None:
        """Cancel what runs, write the answers, and let ``run`` return. The first call decides the status."""
        if host_is_gone:
            self._patience_s = _HOST_GONE_S
        if not self._over.is_set():
            self._exit_code = exit_code
            self._over.set()

    def notify(self, method: str, params: Result) -> None:
        """Send a notification."""
        self._mailbox.put(encode_notification(method, params))

    # Bytes to messages.

    def receive(self, chunk: bytes) -> None:
        """Take in bytes of the host."""
        self._take(self._decoder.feed(chunk))

    def _take(self, frames: list[bytes | FrameFault]) -> None:
        if self._writer.frame is None:
            self._find_framing()
        self._writer.corked = True
        try:
            for frame in frames:
                if self._over.is_set():
                    break
                self._handle(frame)
        except Exception:
            # A fault of ours: what was asked here is never answered, and a host notices an end, but not a silence.
            log.exception("a message could not be handled")
            self.end(1)
        self._writer.corked = False
        self._writer.flush()
        if self._mailbox.waiting_bytes > _WAITING_LIMIT_BYTES:
            self._pause()

    def _find_framing(self) -> None:
        framing = self._decoder.framing
        if framing is not None:
            self._writer.frame = lambda body: encode_frame(body, framing)

    def _handle(self, frame: bytes | FrameFault) -> None:
        if isinstance(frame, FrameFault):
            self._mailbox.put(encode_error(None, frame.error))
            if frame.fatal:
                self.end(1)
            return
        message = parse(frame, self._limits)
        if isinstance(message, Batch):
            self._handle_batch(message)
        else:
            self._handle_message(message, self._mailbox)

    def _handle_batch(self, batch: Batch) -> None:
        reply = BatchReply(self._mailbox)
        for message in batch.messages:
            self._handle_message(message, reply.slot() if isinstance(message, (Request, Invalid)) else self._mailbox)
        reply.started()

    def _handle_message(self, message: Message, reply: Reply) -> None:
        if isinstance(message, Request):
            self._handle_request(message, reply)
        elif isinstance(message, Notification):
            self._handle_notification(message)
        elif isinstance(message, Invalid):
            reply.put(encode_error(message.id, message.error))
        elif isinstance(message, Ignored):
            log.warning("a notification was dropped: %s", message.error)

    def _pause(self) -> None:
        """Read nothing more until what waits now has been taken."""
        loop = asyncio.get_running_loop()
        self._reader.hold(True)

        def go_on() -> None:
            loop.call_soon_threadsafe(self._reader.hold, False)

        self._mailbox.put(go_on)

    # Messages to methods.

    def _handle_request(self, request: Request, reply: Reply) -> None:
        id_, name, params = request
        context = RequestContext(id_)
        outcome = self._refusal(name, id_) or self._dispatcher.call(context, name, params)
        if isinstance(outcome, Pending):
            self._open[id_] = context
            self._start(context, outcome, reply)
        else:
            reply.put(body_of(id_, outcome))

    def _handle_notification(self, notification: Notification) -> None:
        name, params = notification
        context = RequestContext(None, is_notification=True)
        outcome = self._refusal(name) or self._dispatcher.call(context, name, params)
        if isinstance(outcome, Pending):
            self._start(context, outcome, Nowhere(self._mailbox))
        elif isinstance(outcome, RpcError):
            log.info("notification %.100r failed: %s", name, outcome)

    def _refusal(self, name: str, id_: RequestId = None) -> RpcError | None:
        """Why a call cannot be taken now, whatever its parameters."""
        method = self._dispatcher.methods.get(name)
        if method is None:
            return None  # for the dispatcher to say
        if not method.quick:
            if id_ in self._open:
                return DuplicateId()
            if len(self._running) >= _OPEN_LIMIT:
                return Overloaded(queue=len(self._running), limit=_OPEN_LIMIT, retry_after_s=1.0)
        return self._life.admit(name)

    def _start(self, context: RequestContext, pending: Pending, reply: Reply) -> None:
        self._running[context] = reply
        self._tasks.start_soon(self._run, context, pending)

    async def _run(self, context: RequestContext, pending: Pending) -> None:
        outcome: Outcome = Cancelled()  # unless the handler gets to its end
        try:
            with anyio.CancelScope() as scope:
                if context.enter(scope):
                    outcome = await pending.run()
        finally:
            pending.close()
            self._settle(context, outcome)

    def _settle(self, context: RequestContext, outcome: Outcome) -> None:
        """Give the one answer."""
        reply = self._running.pop(context)
        if not context.is_notification:
            del self._open[context.id]
        elif isinstance(outcome, RpcError):
            log.info("a notification failed: %s", outcome)
        reply.put(body_of(context.id, outcome), context.sources)
        self._changed.set()
        self._changed = anyio.Event()

    # The lifecycle.

    def _own_methods(self) -> list[Method[Any]]:
        return [
            Method("initialize", InitializeParams, self._initialize, quick=True),
            Method("initialized", NoParams, self._initialized, quick=True),
            Method("ping", NoParams, _ping, quick=True, passive=True),
            Method("shutdown", ShutdownParams, self._shutdown),
            Method("exit", NoParams, self._exit, quick=True),
            Method("$/cancelRequest", CancelRequestParams, self._cancel, quick=True, passive=True),
        ]

    def _initialize(self, context: RequestContext, params: InitializeParams) -> InitializeResult:
        result = self._initialize_result(params)
        self._life.advance("initialize")
        self.initialized = True
        self.host_process_id = params.process_id
        return result

    def _initialized(self, context: RequestContext, params: NoParams) -> EmptyResult:
        self._life.advance("initialized")
        return EmptyResult()

    def _shutdown(self, context: RequestContext, params: ShutdownParams) -> Coroutine[Any, Any, EmptyResult]:
        self._life.advance("shutdown")  # at once: what comes behind it must find it done
        context.on_cancel(_nothing)  # it has succeeded; cancelling all the others, as exit does, only brings its answer
        if params.cancel:
            self._cancel_all()
        return self._answer_when_alone(context)

    async def _answer_when_alone(self, context: RequestContext) -> EmptyResult:
        await self._wait_for_running(but=context)
        return EmptyResult()

    def _exit(self, context: RequestContext, params: NoParams) -> EmptyResult:
        self._life.advance("exit")
        self.end(self._life.exit_code)
        return EmptyResult()

    def _cancel(self, context: RequestContext, params: CancelRequestParams) -> EmptyResult:
        running = self._open.get(params.id)
        if running is not None:
            running.cancel()
        return EmptyResult()

    def _cancel_all(self) -> None:
        for context in list(self._running):
            context.cancel()

    async def _wait_for_running(self, but: RequestContext | None = None) -> None:
        while self._running.keys() - {but}:
            await self._changed.wait()

    def _on_end_of_input(self) -> None:
        self._input_ended = True
        if self._over.is_set():
            return
        self._take(self._decoder.close())
        if not somebody_reads(self._writer.fd):
            self.end(0, host_is_gone=True)
            return
        watch_readers(self._writer.fd, asyncio.get_running_loop(), lambda: self.end(0, host_is_gone=True))
        self._host_is_silent()
        self._tasks.start_soon(self._end_when_done)

    async def _end_when_done(self) -> None:
        await self._wait_for_running()
        self.end(0)

    def _on_broken(self) -> None:
        self.end(0 if self._input_ended else 1, host_is_gone=True)


def _ping(_: RequestContext, __: NoParams) -> bytes:
    return b"{}"
