"""All streams of the connection: by the engine's number, and by the host's name, for a while beyond their end."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from itertools import count
from typing import Any, Protocol

from mlx_sidecar_protocol.errors import (
    DuplicateStream,
    InternalError,
    InvalidParams,
    RpcError,
    UnknownStream,
    UnsupportedParameter,
)
from mlx_sidecar_protocol.model import StreamId

from ...containment import LEAVING
from ...link.messages import Cancel, Pause, Resume, Tokens
from .stream import Ending, Stream

PAST_NAMES = 1024  # names of ended requests, for which a late cancel is no mistake
REMEMBERED = 32  # ended streams kept for stream/subscribe

log = logging.getLogger(__name__)


class Outbox(Protocol):
    """Where deltas go: the mailbox of the wire."""

    @property
    def lock(self) -> AbstractContextManager[Any]: ...
    def put(self, body: Callable[[], bytes | None]) -> None: ...
    def announce(self, source: Stream, not_before: float = 0.0) -> None: ...


class Streams:
    """Lives on the event loop. ``tell`` tells the engine what becomes of a sequence."""

    def __init__(self, outbox: Outbox, tell: Callable[[Cancel | Pause | Resume], None]) -> None:
        self._outbox = outbox
        self._tell = tell
        self._numbers = count(1)
        self._windows_lifted = False
        self._open: dict[int, Stream] = {}
        # Names are keyed with their type: 1 and "1" are different names.
        self._claims: dict[tuple[type, StreamId], Callable[[], None]] = {}
        self._named: dict[tuple[type, StreamId], Stream] = {}
        self._past: OrderedDict[tuple[type, StreamId], None] = OrderedDict()
        self._remembered: OrderedDict[tuple[type, StreamId], Stream] = OrderedDict()

    def __len__(self) -> int:
        return len(self._open)

    @property
    def running(self) -> list[Stream]:
        """Those that are open and have not ended."""
        return [stream for stream in self._open.values() if not stream.ended.done()]

    def get(self, number: int) -> Stream | None:
        """The open stream with the engine's ``number``, unless it has ended."""
        stream = self._open.get(number)
        return None if stream is None or stream.ended.done() else stream

    def next_number(self) -> int:
        return next(self._numbers)

    @contextmanager
    def claim(self, name: StreamId | None, cancel: Callable[[], None]) -> Iterator[None]:
        """Hold a name while its request lives, from before its model is loaded. ``cancel`` ends the request.

        Raises DuplicateStream if a running request has this name. An ended one gives its name away.
        """
        if name is None:
            yield
            return
        key = (type(name), name)
        if key in self._claims:
            raise DuplicateStream(name)
        self._claims[key] = cancel
        self._remembered.pop(key, None)
        try:
            yield
        finally:
            del self._claims[key]
            self._past[key] = None
            if len(self._past) > PAST_NAMES:
                self._past.popitem(last=False)

    def cancel(self, name: StreamId) -> None:
        """End the request behind a name; one that has ended already is no error. Raises UnknownStream."""
        key = (type(name), name)
        if key in self._claims:
            self._claims[key]()
        elif key not in self._past:
            raise UnknownStream(name)

    def open(self, stream: Stream) -> None:
        if self._windows_lifted:
            stream.window = None
        self._open[stream.seq] = stream
        if stream.id is not None:
            self._named[type(stream.id), stream.id] = stream

    def close(self, stream: Stream) -> None:
        """Forget a running stream; one with a name is remembered for stream/subscribe."""
        self._open.pop(stream.seq, None)
        if stream.id is None:
            return
        key = (type(stream.id), stream.id)
        if self._named.pop(key, None) is not None and stream.ended.done():  # else there was no engine to begin it
            self._remembered[key] = stream
        while len(self._remembered) > REMEMBERED:
            self._remembered.popitem(last=False)

    def find(self, name: StreamId) -> Stream:
        """A running or remembered stream. Raises UnknownStream."""
        key = (type(name), name)
        stream = self._named.get(key) or self._remembered.get(key)
        if stream is None:
            raise UnknownStream(name)
        return stream

    def rewind(self, stream: Stream, after_seq: int | None) -> int | None:
        """Send again what came after delta ``after_seq``, or everything; returns the last number given out before."""
        with self._outbox.lock:
            last_seq = stream.last_seq
            stream.rewind(after_seq)
            if stream.pending:
                self._outbox.announce(stream)
        return last_seq

    def acknowledge(self, stream: Stream, seq: int) -> None:
        """The host has read the deltas up to number ``seq``: what was held back for it goes out, the engine goes on.

        Raises:
            UnsupportedParameter: the stream has no window.
            InvalidParams: there is no such delta yet.
        """
        if stream.window is None:
            raise UnsupportedParameter("window", "the stream was opened without one, so nothing waits for an ack")
        with self._outbox.lock:
            last_seq = stream.last_seq
            if last_seq is None or seq > last_seq:
                raise InvalidParams.field("seq", f"delta {seq} has not been sent")
            stream.acknowledge(seq)
        self._go_on(stream)

    def lift_windows(self) -> None:
        """The host can say nothing more, so no ack will come: streams, later ones too, go on as if without a window."""
        self._windows_lifted = True
        for stream in list(self._open.values()):
            with self._outbox.lock:
                stream.window = None
            self._go_on(stream)

    def _go_on(self, stream: Stream) -> None:
        """If its window is open: what was held back for it goes out, and the engine decodes on."""
        with self._outbox.lock:
            if stream.window_open and stream.unsaid and stream.id is not None:
                self._outbox.announce(stream, stream.next_delta_at)
        if stream.window_open and stream.paused and not stream.ended.done():
            stream.paused = False
            self._tell(Resume(stream.seq))

    def interrupt(self, stream: Stream, because: str) -> None:
        """The engine behind a running stream was lost: its host is told before it hears more."""
        stream.interruptions += 1
        if stream.id is None:
            return
        with self._outbox.lock:
            fresh = stream.interrupt(because)
        if fresh:
            self._outbox.put(stream.take_notice)

    # What comes of them.

    def on_tokens(self, message: Tokens) -> None:
        """New tokens from the engine."""
        stream = self.get(message.seq)
        if stream is None:
            return
        if stream.late is None:
            self._take_in(stream, message)
        else:
            stream.late.expect(message.tokens, partial(self._take_in, stream, message), partial(self._fail, stream))

    def end_of_text(self, stream: Stream, then: Callable[[], None]) -> bool:
        """Whether all text of ``stream`` is there; else ``then`` is called when it is."""
        if stream.late is None or stream.late.has_ended:
            return True
        stream.late.expect(None, then, partial(self._fail, stream))
        return False

    def _take_in(self, stream: Stream, message: Tokens) -> None:
        if stream.ended.done() or stream.stop_match is not None:
            return  # decoded before the engine heard that we are done
        try:
            said = stream.push(message.tokens, message.logprobs)
        except LEAVING:
            raise
        except BaseException:
            # One tokenizer's fault: all other streams come through the same link.
            log.exception("tokens of a stream could not be taken in")
            self._tell(Cancel(message.seq))
            self._break_off(stream)
            return
        if said and stream.id is not None and stream.window_open:
            self._outbox.announce(stream, stream.next_delta_at)
        if stream.finish_reason == "stop":
            self._tell(Cancel(message.seq, "stop"))
        elif not stream.window_open and not stream.paused:
            stream.paused = True
            self._tell(Pause(message.seq))

    def finish(self, stream: Stream, ending: Ending) -> None:
        """Settle how a stream ended; later calls do nothing. What the engine says of it afterwards is nobody's."""
        try:
            stream.finish(ending)
        except LEAVING:
            raise
        except BaseException:
            log.exception("the last text of a stream could not be made")
            self._break_off(stream)
            return
        self._announce_end(stream)

    def _fail(self, stream: Stream, error: RpcError) -> None:
        """The text of its tokens cannot be had."""
        if not stream.ended.done():
            self._tell(Cancel(stream.seq))
            self._break_off(stream, error)

    def _break_off(self, stream: Stream, error: RpcError | None = None) -> None:
        stream.break_off(Ending("error", True, stream.timing, error=error or InternalError()))
        self._announce_end(stream)

    def _announce_end(self, stream: Stream) -> None:
        if stream.id is not None and stream.pending:
            self._outbox.announce(stream, stream.next_delta_at)
