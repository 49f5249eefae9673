"""One connection: bytes in, answers into the mailbox. Every accepted request is answered exactly once."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Literal
from weakref import WeakValueDictionary

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
)
from mlx_sidecar_protocol.errors import Cancelled, DuplicateId, RpcError
from mlx_sidecar_protocol.framing import FrameDecoder, FrameFault, encode_frame
from mlx_sidecar_protocol.lifecycle import EVENTS, Lifecycle
from mlx_sidecar_protocol.limits import DEFAULT_LIMITS, Limits
from mlx_sidecar_protocol.operations import (
    CancelRequestParams,
    EmptyResult,
    InitializeParams,
    InitializeResult,
    NoParams,
    ShutdownParams,
)

from ...containment import LEAVING, contained
from .bounds import Bounds
from .context import RequestContext
from .dispatcher import Dispatcher, Method, Outcome, Pending
from .intake import Intake, Parsed
from .mailbox import Mailbox
from .named import asyncio_named
from .reader import Reader
from .responses import BatchReply, Nowhere, Reply, answer
from .stdio import somebody_reads
from .writer import Writer, watch_readers

_SHED_AFTER_S = 0.1
_HEAVY_AT_ONCE = 4  # of one model; each may take many times the size of its request
_PATIENCE_S = 2.0  # for cancelled requests to end before they are dropped, and for the host to take the last answers
_TAKING_S = 10.0  # for a host that is there and has closed our input: it may be at work on what it has read
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
        bounds: Bounds | None = None,
        on_end_of_input: Callable[[], None] = _nothing,
    ) -> None:
        self._dispatcher = Dispatcher([*self._own_methods(), *methods])
        passive = frozenset(name for name, method in self._dispatcher.methods.items() if method.passive)
        self._life = Lifecycle(passive)
        self._initialize_result = initialize
        self._reader = reader
        self._writer = writer
        self._mailbox = mailbox
        self._bounds = bounds or Bounds(mailbox)
        self._shedding = False
        self._heavy: WeakValueDictionary[str, anyio.Semaphore] = WeakValueDictionary()  # of the models in use now
        self._intake = Intake(limits, self._handle, self._wait_for_room, reader.hold)
        self._host_is_silent = on_end_of_input
        self._decoder = FrameDecoder(framing, limits)
        self._open: dict[RequestId, RequestContext] = {}
        self._running: dict[RequestContext, Reply] = {}  # those in _open, and notifications
        self._changed = anyio.Event()  # replaced whenever it is set: something in _running has ended
        self._over = anyio.Event()
        self._exit_code = 0
        self._patience_s = _PATIENCE_S
        self._taking_s: float | None = None  # for the host to take some of the last answers; None: the same
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
        written = self._writer.close(self._taking_s or self._patience_s)
        # A reader that left may have had enough. Anything else that was not written is lost.
        lost = self._writer.lost or not (written or self._writer.broken)
        return 1 if lost and self._exit_code == 0 else self._exit_code

    def end(self, exit_code: int, *, host_is_gone: bool = False) -> None:
        """Cancel what runs, write the answers, and let ``run`` return. The first call decides the status."""
        if host_is_gone:
            self._patience_s = _HOST_GONE_S
        if not self._over.is_set():
            self._exit_code = exit_code
            self._over.set()
            self._intake.close()

    def notify(self, method: str, params: Result) -> None:
        """Send a notification."""
        self._mailbox.put(encode_notification(method, params))

    # Bytes to messages.

    def receive(self, chunk: bytes) -> None:
        """Take in bytes of the host."""
        self._take(lambda: self._decoder.feed(chunk))

    def _take(self, cut: Callable[[], list[bytes | FrameFault]]) -> None:
        self._writer.corked = True
        try:
            frames = cut()
            if self._writer.frame is None:
                self._find_framing()
            self._intake.take(frames)
        except LEAVING:
            raise
        except BaseException:
            # Where the next message begins is not known any more, and a host notices an end, but not a silence.
            log.exception("the input could not be taken in")
            self.end(1)
        finally:
            self._writer.corked = False
        self._writer.flush()

    def _find_framing(self) -> None:
        framing = self._decoder.framing
        if framing is not None:
            self._writer.frame = lambda body: encode_frame(body, framing)

    def _handle(self, parsed: Parsed, size_bytes: int) -> None:
        try:
            if isinstance(parsed, FrameFault):
                self._mailbox.put(encode_error(None, parsed.error))
                if parsed.fatal:
                    self.end(1)
            elif isinstance(parsed, Batch):
                self._handle_batch(parsed, size_bytes)
            else:
                self._handle_message(parsed, self._mailbox, size_bytes)
        except LEAVING:
            raise
        except BaseException:
            # A fault of ours: what was asked here is never answered, and a host notices an end, but not a silence.
            log.exception("a message could not be handled")
            self.end(1)

    def _handle_batch(self, batch: Batch, size_bytes: int) -> None:
        reply = BatchReply(self._mailbox)
        share = size_bytes // len(batch.messages)
        for message in batch.messages:
            slot = reply.slot() if isinstance(message, (Request, Invalid)) else self._mailbox
            self._handle_message(message, slot, share)
        reply.started()

    def _handle_message(self, message: Message, reply: Reply, size_bytes: int) -> None:
        if isinstance(message, Request):
            self._handle_request(message, reply, size_bytes)
        elif isinstance(message, Notification):
            self._handle_notification(message, size_bytes)
        elif isinstance(message, Invalid):
            reply.put(encode_error(message.id, message.error))
        elif isinstance(message, Ignored):
            log.warning("a notification was dropped: %s", message.error)

    def _wait_for_room(self, go_on: Callable[[], None]) -> bool:
        """Where too much waits to be written: call ``go_on`` once what waits now has been taken."""
        if not self._bounds.must_wait:
            return False
        loop = asyncio.get_running_loop()

        def taken() -> None:
            loop.call_soon_threadsafe(go_on)

        self._mailbox.put(taken)
        return True

    # Messages to methods.

    def _handle_request(self, request: Request, reply: Reply, size_bytes: int) -> None:
        id_, name, params = request
        context = RequestContext(id_, size_bytes=size_bytes)
        outcome = self._refusal(name, size_bytes, id_) or self._dispatcher.call(context, name, params)
        if isinstance(outcome, Pending):
            self._open[id_] = context
            self._start(context, outcome, reply, name, params)
        else:
            answer(reply, id_, outcome)

    def _handle_notification(self, notification: Notification, size_bytes: int) -> None:
        name, params = notification
        context = RequestContext(None, is_notification=True, size_bytes=size_bytes)
        outcome = self._refusal(name, size_bytes) or self._dispatcher.call(context, name, params)
        if isinstance(outcome, Pending):
            self._start(context, outcome, Nowhere(self._mailbox), name, params)
        elif isinstance(outcome, RpcError):
            log.info("notification %.100r failed: %s", name, outcome)

    def _refusal(self, name: str, size_bytes: int, id_: RequestId = None) -> RpcError | None:
        """Why a call cannot be taken now, whatever its parameters."""
        method = self._dispatcher.methods.get(name)
        if method is None:
            return None  # for the dispatcher to say
        if not method.quick:
            if id_ in self._open:
                return DuplicateId()
            if (error := self._bounds.too_many_requests(len(self._running), size_bytes)) is not None:
                return error
        if not method.passive and name not in EVENTS and (error := self._bounds.too_many_answers()) is not None:
            return error
        return self._life.admit(name)

    def _start(self, context: RequestContext, pending: Pending, reply: Reply, name: str, params: Any) -> None:
        self._running[context] = reply
        self._bounds.begun(context.size_bytes)
        turn = self._turn(params) if self._dispatcher.methods[name].heavy else None
        self._tasks.start_soon(self._run, context, pending, turn)

    def _turn(self, params: Any) -> anyio.Semaphore:
        """What few requests hold at once. Each model has its own: one that hangs keeps no other waiting."""
        model = params.get("model") if isinstance(params, dict) else None
        return self._heavy.setdefault(str(model), anyio.Semaphore(_HEAVY_AT_ONCE))

    async def _run(self, context: RequestContext, pending: Pending, turn: anyio.Semaphore | None) -> None:
        outcome: Outcome = Cancelled()  # unless the handler gets to its end
        try:
            with anyio.CancelScope() as scope:
                if context.enter(scope):
                    outcome = await (pending.run() if turn is None else self._in_turn(pending, turn))
        finally:
            pending.close()
            self._settle(context, outcome)

    async def _in_turn(self, pending: Pending, turn: anyio.Semaphore) -> Outcome:
        async with turn:
            room = anyio.Event()
            while self._wait_for_room(room.set):
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
            # Later: one long answer of which a host that reads is just about to be sent the most is no reason.
            asyncio.get_running_loop().call_later(_SHED_AFTER_S, self._shed)
        self._changed.set()
        self._changed = anyio.Event()

    def _shed(self) -> None:
        """Where too many answers wait, requests whose work has not begun are refused: theirs would come on top."""
        self._shedding = False
        error = self._bounds.too_many_answers()
        if error is None:
            return
        for context in list(self._running):
            with contained(log, "a request could not be refused"):
                context.shed(error)

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
            with contained(log, "a request could not be cancelled"):
                context.cancel()

    async def _wait_for_running(self, but: RequestContext | None = None) -> None:
        while self._running.keys() - {but}:
            await self._changed.wait()

    def _on_end_of_input(self) -> None:
        self._input_ended = True
        if self._over.is_set():
            return
        self._take(self._decoder.close)
        if not somebody_reads(self._writer.fd):
            self.end(0, host_is_gone=True)
            return
        self._tasks.start_soon(self._end_when_done)
        with contained(log, "streams with a window may not go on"):
            self._host_is_silent()
        watch_readers(self._writer.fd, asyncio.get_running_loop(), lambda: self.end(0, host_is_gone=True))

    async def _end_when_done(self) -> None:
        await self._intake.until_empty()
        await self._wait_for_running()
        self._taking_s = max(self._patience_s, _TAKING_S)
        self.end(0)

    def _on_broken(self) -> None:
        # A reader that left when it had said all may have seen enough. What could not be written is lost.
        self.end(0 if self._input_ended and not self._writer.lost else 1, host_is_gone=True)


def _ping(_: RequestContext, __: NoParams) -> bytes:
    return b"{}"
