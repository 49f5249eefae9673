"""The registry finds a connection's text streams by the host's names, for a while beyond their end."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from mlx_sidecar_protocol.errors import DuplicateStream, InvalidParams, UnknownStream, UnsupportedParameter
from mlx_sidecar_protocol.model import StreamId

from ...link.messages import Resume
from .deltas import Deltas
from .feed import Feed, Outbox, Tell
from .text_stream import TextStream

PAST_NAMES = 1024  # names of ended requests, for which a late cancel is no mistake
REMEMBERED = 32  # ended streams kept for stream/subscribe


class Streams:
    """The streams of a connection, on its event loop. ``tell`` sends the engine a message about a sequence."""

    def __init__(self, outbox: Outbox, tell: Tell) -> None:
        self._outbox = outbox
        self._tell = tell
        self._windows_lifted = False
        # Names are keyed with their type: 1 and "1" are different names.
        self._claims: dict[tuple[type, StreamId], Callable[[], None]] = {}
        self._named: dict[tuple[type, StreamId], TextStream] = {}
        self._past: OrderedDict[tuple[type, StreamId], None] = OrderedDict()
        self._remembered: OrderedDict[tuple[type, StreamId], TextStream] = OrderedDict()

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

    def hearing(self, stream: TextStream) -> AbstractContextManager[None]:
        """Let ``stream`` hear its task. While the block runs, a stream with a name is found; afterwards it is
        remembered."""
        stream.task.listener = Feed(stream, self._outbox, self._tell)
        return nullcontext() if stream.deltas is None else self._found(stream, stream.deltas)

    @contextmanager
    def _found(self, stream: TextStream, deltas: Deltas) -> Iterator[None]:
        if self._windows_lifted:
            deltas.window = None
        key = (type(deltas.name), deltas.name)
        self._named[key] = stream
        try:
            yield
        finally:
            del self._named[key]
            if stream.task.ended.done():  # else there was no engine to begin it
                self._remember(key, stream)

    def find(self, name: StreamId) -> TextStream:
        """A running or remembered stream. Raises UnknownStream."""
        key = (type(name), name)
        stream = self._named.get(key) or self._remembered.get(key)
        if stream is None:
            raise UnknownStream(name)
        return stream

    def rewind(self, stream: TextStream, after_seq: int | None) -> int | None:
        """Send all after delta ``after_seq`` again, or everything; returns the last number given out before."""
        deltas = self._deltas(stream)
        with self._outbox.lock:
            last_seq = deltas.last_seq
            deltas.rewind(after_seq)
            if deltas.pending:
                self._outbox.announce(deltas)
        return last_seq

    def acknowledge(self, stream: TextStream, seq: int) -> None:
        """The host has read the deltas up to number ``seq``: text held back for it goes out, the engine goes on.

        Raises:
            UnsupportedParameter: the stream has no window.
            InvalidParams: there is no such delta yet.
        """
        deltas = self._deltas(stream)
        if deltas.window is None:
            raise UnsupportedParameter("window", "the stream was opened without one, so nothing waits for an ack")
        with self._outbox.lock:
            last_seq = deltas.last_seq
            if last_seq is None or seq > last_seq:
                raise InvalidParams.field("seq", f"delta {seq} has not been sent")
            deltas.acknowledge(seq)
        self._go_on(stream, deltas)

    def lift_windows(self) -> None:
        """The host can say nothing more, so no ack will come: streams, later ones too, go on as if without a window."""
        self._windows_lifted = True
        for stream in list(self._named.values()):
            deltas = self._deltas(stream)
            with self._outbox.lock:
                deltas.window = None
            self._go_on(stream, deltas)

    def _go_on(self, stream: TextStream, deltas: Deltas) -> None:
        """If its window is open, send the text held back for it and let the engine decode on."""
        with self._outbox.lock:
            if deltas.window_open and deltas.unsaid:
                self._outbox.announce(deltas, deltas.next_at)
        task = stream.task
        if deltas.window_open and task.paused and not task.ended.done():
            self._tell(Resume(task.seq))

    def _remember(self, key: tuple[type, StreamId], stream: TextStream) -> None:
        self._remembered[key] = stream
        while len(self._remembered) > REMEMBERED:
            self._remembered.popitem(last=False)

    @staticmethod
    def _deltas(stream: TextStream) -> Deltas:
        assert stream.deltas is not None, "a stream with a name has deltas"
        return stream.deltas
