"""A session answers every accepted request of one connection exactly once: bytes in, answers into the mailbox."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any, Literal

import anyio

from mlx_sidecar_protocol.connection import InitializeParams, InitializeResult
from mlx_sidecar_protocol.envelope import (
    Batch,
    Ignored,
    Invalid,
    Message,
    Notification,
    Request,
    RequestId,
    encode_error,
)
from mlx_sidecar_protocol.errors import RpcError
from mlx_sidecar_protocol.framing import FrameDecoder, FrameFault, encode_frame
from mlx_sidecar_protocol.lifecycle import EVENTS
from mlx_sidecar_protocol.limits import DEFAULT_LIMITS, Limits

from ...containment import LEAVING, contained
from .bounds import Bounds
from .context import RequestContext
from .dispatcher import Dispatcher, Method, Pending
from .in_flight import InFlight
from .intake import Intake, Parsed
from .lifecycle_methods import LifecycleMethods
from .mailbox import Mailbox
from .responses import BatchReply, Nowhere, Reply, answer
from .transport import Incoming, Outgoing

_PATIENCE_S = 2.0  # for cancelled requests to end before they are dropped, and for the host to take the last answers
_TAKING_S = 10.0  # for a host that is there and has closed our input: it may be at work on answers it has read
_HOST_GONE_S = 0.2  # the same when the host is gone: we have promised to be gone within a second

log = logging.getLogger(__name__)


class Session:
    """Serves ``methods`` and the lifecycle: initialize, initialized, ping, shutdown, exit, $/cancelRequest.

    Ids, lifecycle and bounds are this connection's own. ``writer`` writes the messages of ``mailbox``.
    ``initialize`` makes the result of that request; it may raise an RpcError. ``on_end_of_input`` is called when the
    host can say nothing more and running requests are to end on their own. Everything but the threads of reader and
    writer runs in the event loop's thread.

    Without ``methods`` the session serves the lifecycle alone until ``serve`` names them. Messages that need another
    method wait for that, and so do those behind them but calls of ``unordered`` methods.
    """

    def __init__(
        self,
        methods: Sequence[Method[Any]] | None,
        initialize: Callable[[InitializeParams], InitializeResult],
        *,
        reader: Incoming,
        writer: Outgoing,
        mailbox: Mailbox,
        framing: Literal["auto", "lines", "headers"] = "auto",
        limits: Limits = DEFAULT_LIMITS,
        bounds: Bounds | None = None,
        on_end_of_input: Callable[[], None] = lambda: None,
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._mailbox = mailbox
        self._bounds = bounds or Bounds(mailbox)
        self._in_flight = InFlight(self._bounds)
        self._life = LifecycleMethods(initialize, self._in_flight, self.end)
        self._dispatcher = Dispatcher(self._life.methods)
        self._complete = False  # all methods are there
        self._some_wait = False  # messages, for the methods that are still to be named
        self._intake = Intake(limits, self._handle, self._bounds.wait_for_room, reader.hold)
        self._host_is_silent: Callable[[], None] = on_end_of_input
        self._decoder = FrameDecoder(framing, limits)
        self._over = anyio.Event()
        self._exit_code = 0
        self._patience_s = _PATIENCE_S
        self._taking_s: float | None = None  # for the host to take some of the last answers; None: the same
        self._input_ended = False
        if methods is not None:
            self._add(methods)

    # For the owner of the session.

    @property
    def initialized(self) -> bool:
        """Whether the host has initialized: it wants to hear logs."""
        return self._life.initialized

    @property
    def host_process_id(self) -> int | None:
        """The process that ``initialize`` named as the host's."""
        return self._life.host_process_id

    def serve(self, methods: Sequence[Method[Any]], on_end_of_input: Callable[[], None]) -> None:
        """Serve ``methods`` from now on, first to the messages that have waited for them."""
        self._add(methods)
        self._host_is_silent = on_end_of_input
        if self._input_ended:
            self._tell_of_silence()
        self._work(self._intake.go_on)

    def _add(self, methods: Sequence[Method[Any]]) -> None:
        self._life.add(methods)
        self._dispatcher = Dispatcher([*self._life.methods, *methods])
        self._complete = True

    async def run(self) -> int:
        """Serve until the host leaves, ``exit`` or ``end``. Returns the exit status; all has been written by then."""
        loop = asyncio.get_running_loop()
        async with self._in_flight.running():
            self._writer.start(loop, self._on_broken)
            self._reader.attach(loop, self.receive, self._on_end_of_input)
            await self._over.wait()
            self._in_flight.cancel_all()
            with anyio.move_on_after(self._patience_s):
                await self._in_flight.wait_ended()
        written = self._writer.close(self._taking_s or self._patience_s)
        # A reader that left may have had enough. Anything else that was not written is lost.
        lost = self._writer.lost or not (written or self._writer.broken)
        return 1 if lost and self._exit_code == 0 else self._exit_code

    def end(self, exit_code: int, *, host_is_gone: bool = False) -> None:
        """Cancel all requests, write the answers, and let ``run`` return. The first call decides the status."""
        if host_is_gone:
            self._patience_s = _HOST_GONE_S
        if not self._over.is_set():
            self._exit_code = exit_code
            self._over.set()
            self._intake.close()

    # Bytes to messages.

    def receive(self, chunk: bytes) -> None:
        """Take in bytes of the host."""
        self._work(lambda: self._take(self._decoder.feed(chunk)))

    def _take(self, frames: list[bytes | FrameFault]) -> None:
        if self._writer.frame is None:
            self._find_framing()
        self._intake.take(frames)

    def _work(self, work: Callable[[], None]) -> None:
        """Do a part of the work on the input, then write all that came of it."""
        self._writer.corked = True
        try:
            work()
        except LEAVING:
            raise
        except BaseException:
            # The start of the next message is lost, and a host notices an end, but not a silence.
            log.exception("the input could not be taken in")
            self.end(1)
        finally:
            self._writer.corked = False
        self._writer.flush()

    def _find_framing(self) -> None:
        framing = self._decoder.framing
        if framing is not None:
            self._writer.frame = lambda body: encode_frame(body, framing)

    def _handle(self, parsed: Parsed, size_bytes: int) -> bool:
        """Handle a message, or return False if it must wait until all methods are named."""
        if not self._complete and self._must_wait(parsed):
            self._some_wait = True
            return False
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
            # A fault of ours: this message is never answered, and a host notices an end, but not a silence.
            log.exception("a message could not be handled")
            self.end(1)
        return True

    def _must_wait(self, parsed: Parsed) -> bool:
        messages = parsed.messages if isinstance(parsed, Batch) else (parsed,)
        calls = [message.method for message in messages if isinstance(message, (Request, Notification))]
        methods = [self._dispatcher.methods.get(name) for name in calls]
        if self._some_wait:
            # An error has its place behind them: a fatal one ends the session.
            return len(calls) < len(messages) or not all(method and method.unordered for method in methods)
        return None in methods

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

    # Messages to methods.

    def _handle_request(self, request: Request, reply: Reply, size_bytes: int) -> None:
        id_, name, params = request
        context = RequestContext(id_, size_bytes=size_bytes)
        outcome = self._refusal(name, size_bytes, id_) or self._dispatcher.call(context, name, params)
        if isinstance(outcome, Pending):
            self._in_flight.start(context, outcome, reply, self._heavy_model(name, params))
        else:
            answer(reply, id_, outcome)

    def _handle_notification(self, notification: Notification, size_bytes: int) -> None:
        name, params = notification
        context = RequestContext(None, is_notification=True, size_bytes=size_bytes)
        outcome = self._refusal(name, size_bytes) or self._dispatcher.call(context, name, params)
        if isinstance(outcome, Pending):
            self._in_flight.start(context, outcome, Nowhere(self._mailbox), self._heavy_model(name, params))
        elif isinstance(outcome, RpcError):
            log.info("notification %.100r failed: %s", name, outcome)

    def _refusal(self, name: str, size_bytes: int, id_: RequestId = None) -> RpcError | None:
        """Why a call cannot be taken now, whatever its parameters."""
        method = self._dispatcher.methods.get(name)
        if method is None:
            return None  # for the dispatcher to say
        if not method.quick and (error := self._in_flight.refusal(id_, size_bytes)) is not None:
            return error
        if not method.passive and name not in EVENTS and (error := self._bounds.too_many_answers()) is not None:
            return error
        return self._life.admit(name)

    def _heavy_model(self, name: str, params: Any) -> str | None:
        """The model for which a request of a heavy method needs a turn."""
        if not self._dispatcher.methods[name].heavy:
            return None
        return str(params.get("model") if isinstance(params, dict) else None)

    # The end of a connection.

    def _on_end_of_input(self) -> None:
        self._input_ended = True
        if self._over.is_set():
            return
        self._work(lambda: self._take(self._decoder.close()))
        if not self._writer.somebody_reads:
            self.end(0, host_is_gone=True)
            return
        self._in_flight.start_soon(self._end_when_done)
        self._tell_of_silence()
        self._writer.watch_readers(lambda: self.end(0, host_is_gone=True))

    def _tell_of_silence(self) -> None:
        with contained(log, "streams with a window may not go on"):
            self._host_is_silent()

    async def _end_when_done(self) -> None:
        await self._intake.until_empty()
        await self._in_flight.wait_ended()
        self._taking_s = max(self._patience_s, _TAKING_S)
        self.end(0)

    def _on_broken(self) -> None:
        # A reader that left when it had said all may have seen enough. Text that could not be written is lost.
        self.end(0 if self._input_ended and not self._writer.lost else 1, host_is_gone=True)
