"""The mailbox holds all that waits to be written, and merges the text of streams while the host reads slowly.

Control messages keep their order. A stream is represented by at most one turn in the queue: when its turn comes it
says, in as few frames as it can, all that it has by then. So a slow host costs memory for text, never messages without
end.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Protocol

from ...containment import LEAVING
from ..stream_events import StreamEvent
from .stream_notifications import encoded

log = logging.getLogger(__name__)

Late = Callable[[], bytes | None]
"""Makes a body at the moment it is written, e.g. an answer that names the last delta before it; or makes none."""


class Source(Protocol):
    """A stream with something to say, compared by identity.

    ``take`` gives the event of the next frame, or its body, None when nothing is left. It is called under the mailbox's
    lock, by one thread at a time and in the order of writing: numbers given there have no gaps and need no other lock.
    """

    def take(self) -> bytes | StreamEvent | None: ...


class _Made:
    """A body to be made, and the bytes that are held for it until then."""

    __slots__ = ("held_bytes", "make")

    def __init__(self, make: Late, held_bytes: int) -> None:
        self.make = make
        self.held_bytes = held_bytes


class _Turn:
    __slots__ = ("source",)

    def __init__(self, source: Source) -> None:
        self.source = source


class Mailbox:
    """Any thread puts, one at a time drains. ``on_work`` is called when idleness ends, outside the lock.

    ``lock`` is reentrant; no source is taken while a caller holds it.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.lock = threading.RLock()
        self.on_work: Callable[[], None] = _nothing
        self._clock = clock
        self._queue: deque[bytes | _Made | _Turn] = deque()
        self._turns: set[int] = set()  # ids of the sources in the queue
        self._delayed: dict[int, tuple[float, Source]] = {}  # by id: when due
        self._collected_bytes = 0
        self._waiting_bytes = 0
        self._announced = False  # on_work was called and nothing has been drained since
        self._closed = False

    @property
    def waiting_bytes(self) -> int:
        """Size of the messages that wait to be written, and of the bytes held for those that are made then.

        The text of running streams is not counted.
        """
        return self._waiting_bytes

    @property
    def collected_bytes(self) -> int:
        """Size of the answers that wait for others of their batch."""
        return self._collected_bytes

    @property
    def next_due(self) -> float | None:
        """When the next delayed stream may speak, on the clock."""
        with self.lock:
            return min((due for due, _ in self._delayed.values()), default=None)

    def collect(self, more_bytes: int) -> None:
        """Count ``more_bytes`` of a batch's answers until the batch is answered; then, as less, count them no more."""
        with self.lock:
            self._collected_bytes += more_bytes

    def put(self, body: bytes | Late, after: Iterable[Source] = (), held_bytes: int = 0) -> None:
        """Write ``body`` when its turn comes; all that the sources in ``after`` have said so far goes before it.

        ``held_bytes`` are held by a ``Late`` until then, and count as waiting.
        """
        with self.lock:
            if self._closed:
                return
            for source in after:
                if self._delayed.pop(id(source), None) is not None:
                    self._line_up(source)
            if isinstance(body, bytes):
                self._queue.append(body)
                self._waiting_bytes += len(body)
            else:
                self._queue.append(_Made(body, held_bytes))
                self._waiting_bytes += held_bytes
        self._call_out()

    def announce(self, source: Source, not_before: float = 0.0) -> None:
        """``source`` has something to say, and may say it from ``not_before`` (on the clock) on.

        A source that already waits keeps its place; its turn will bring the new text as well.
        """
        with self.lock:
            if self._closed or id(source) in self._turns or id(source) in self._delayed:
                return
            if not_before > 0.0 and not_before > self._clock():
                self._delayed[id(source)] = (not_before, source)
            else:
                self._line_up(source)
        self._call_out()

    def drain(self, limit_bytes: int) -> list[bytes]:
        """Bodies to write now, in order: all that are due, or as many as reach ``limit_bytes``."""
        bodies: list[bytes] = []
        size = 0
        with self.lock:
            if self._delayed:
                self._line_up_due()
            while self._queue and size < limit_bytes:
                body = self._next()
                if body is not None:
                    bodies.append(body)
                    size += len(body)
            self._announced = bool(self._queue)
        return bodies

    def close(self) -> None:
        """Take nothing more; the queue and the text of delayed streams may still be drained."""
        with self.lock:
            for _, source in self._delayed.values():
                self._line_up(source)
            self._delayed.clear()
            self._closed = True
        self._call_out()

    def discard(self) -> None:
        """Close, and forget all that waits, because the host will not read it."""
        with self.lock:
            self._closed = True
            self._queue.clear()
            self._turns.clear()
            self._delayed.clear()
            self._waiting_bytes = 0

    def _call_out(self) -> None:
        # Read outside the lock: a drain in between only makes one call too many.
        if not self._announced:
            self._announced = True
            self.on_work()

    def _line_up(self, source: Source) -> None:
        self._turns.add(id(source))
        self._queue.append(_Turn(source))

    def _line_up_due(self) -> None:
        now = self._clock()
        for due, source in sorted(self._delayed.values(), key=lambda entry: entry[0]):
            if due <= now:
                del self._delayed[id(source)]
                self._line_up(source)

    def _next(self) -> bytes | None:
        """The next body from the head of the queue. None takes the head away: a source that has no more."""
        head = self._queue[0]
        if isinstance(head, _Turn):
            body = _made(head.source.take)
            if body is None:
                self._queue.popleft()
                self._turns.discard(id(head.source))
            return body
        self._queue.popleft()
        if isinstance(head, bytes):
            self._waiting_bytes -= len(head)
            return head
        self._waiting_bytes -= head.held_bytes
        return _made(head.make)


def _made(make: Callable[[], bytes | StreamEvent | None]) -> bytes | None:
    try:
        made = make()
        return made if made is None or isinstance(made, bytes) else encoded(made)
    except LEAVING:
        raise
    except BaseException:
        # A message that cannot be made must not silence the others.
        log.exception("a message could not be made")
        return None


def _nothing() -> None:
    pass
