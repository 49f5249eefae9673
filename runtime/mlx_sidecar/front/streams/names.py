"""What a host calls its streams, and what it can do with one by its name."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from mlx_sidecar_protocol.errors import DuplicateStream, InvalidParams, UnknownStream, UnsupportedParameter
from mlx_sidecar_protocol.model import StreamId

from .registry import Streams
from .stream import Outbox, Stream

PAST_NAMES = 1024  # names of ended requests, for which a late cancel is no mistake
REMEMBERED = 32  # ended streams kept for stream/subscribe

_Key = tuple[type, StreamId]  # names are keyed with their type: 1 and "1" are different names


class Claim:
    """A request's hold on the name of its stream."""

    def __init__(self, names: StreamNames, cancel: Callable[[], None]) -> None:
        self._names = names
        self.cancel = cancel
        self.stream: Stream | None = None

    def give(self, stream: Stream) -> None:
        """The name is ``stream``'s: the host hears it from its first token on."""
        self.stream = stream
        self._names.connect(stream)


class StreamNames:
    """The streams of one host; lives on the event loop. Other hosts may use the same names for theirs.

    ``outbox`` is where the deltas of these streams go.
    """

    def __init__(self, outbox: Outbox, streams: Streams) -> None:
        self._outbox = outbox
        self._streams = streams
        self._windows_lifted = False
        self._claims: dict[_Key, Claim] = {}
        self._past: OrderedDict[_Key, None] = OrderedDict()
        self._remembered: OrderedDict[_Key, Stream] = OrderedDict()

    @contextmanager
    def claim(self, name: StreamId | None, cancel: Callable[[], None]) -> Iterator[Claim | None]:
        """Hold a name while its request lives, from before its model is loaded. ``cancel`` ends the request.

        Raises DuplicateStream if a running request has this name. An ended one gives its name away.
        """
        if name is None:
            yield None
            return
        key = (type(name), name)
        if key in self._claims:
            raise DuplicateStream(name)
        claim = self._claims[key] = Claim(self, cancel)
        self._remembered.pop(key, None)
        try:
            yield claim
        finally:
            del self._claims[key]
            self._remember(key, claim.stream)

    def _remember(self, key: _Key, stream: Stream | None) -> None:
        self._past[key] = None
        if len(self._past) > PAST_NAMES:
            self._past.popitem(last=False)
        if stream is not None and stream.ended.done():  # else there was no engine to begin it
            self._remembered[key] = stream
            if len(self._remembered) > REMEMBERED:
                self._remembered.popitem(last=False)

    def connect(self, stream: Stream) -> None:
        """What ``stream`` has to say goes to this host."""
        stream.outbox = self._outbox
        if self._windows_lifted:
            stream.window = None

    def cancel(self, name: StreamId) -> None:
        """End the request behind a name; one that has ended already is no error. Raises UnknownStream."""
        key = (type(name), name)
        if key in self._claims:
            self._claims[key].cancel()
        elif key not in self._past:
            raise UnknownStream(name)

    def find(self, name: StreamId) -> Stream:
        """A running or remembered stream. Raises UnknownStream."""
        key = (type(name), name)
        claim = self._claims.get(key)
        stream = self._remembered.get(key) if claim is None else claim.stream
        if stream is None:
            raise UnknownStream(name)
        return stream

    def rewind(self, name: StreamId, after_seq: int | None) -> tuple[Stream, int | None]:
        """Send again what came after delta ``after_seq``, or everything.

        Returns the stream and the last number given out before. Raises UnknownStream.
        """
        stream = self.find(name)
        with self._outbox.lock:
            last_seq = stream.last_seq
            stream.rewind(after_seq)
            if stream.pending:
                self._outbox.announce(stream)
        return stream, last_seq

    def acknowledge(self, name: StreamId, seq: int) -> None:
        """The host has read the deltas up to number ``seq``: what was held back for it goes out, the engine goes on.

        Raises:
            UnknownStream: no stream has the name.
            UnsupportedParameter: the stream has no window.
            InvalidParams: there is no such delta yet.
        """
        stream = self.find(name)
        if stream.window is None:
            raise UnsupportedParameter("window", "the stream was opened without one, so nothing waits for an ack")
        with self._outbox.lock:
            last_seq = stream.last_seq
            if last_seq is None or seq > last_seq:
                raise InvalidParams.field("seq", f"delta {seq} has not been sent")
            stream.acknowledge(seq)
        self._streams.go_on(stream)

    def lift_windows(self) -> None:
        """The host can say nothing more, so no ack will come: streams, later ones too, go on as if without a window."""
        self._windows_lifted = True
        for stream in [claim.stream for claim in self._claims.values() if claim.stream is not None]:
            with self._outbox.lock:
                stream.window = None
            self._streams.go_on(stream)
