"""The inbox brings the step loop the front's messages and the events of background threads."""

from __future__ import annotations

import logging
import os
import socket
import threading
from queue import Empty, SimpleQueue
from typing import NamedTuple

from ..link.codec import Decoder, Unreadable
from ..link.messages import Stop, ToEngine

_LONGEST_WAIT_S = 3600.0  # a queue cannot wait for ever so many seconds; to look up now and then costs nothing

log = logging.getLogger(__name__)


class Background(NamedTuple):
    """An event from a background thread of this process; the part of the engine that began the work understands it."""

    event: object


Heard = ToEngine | Unreadable | Background


class Inbox:
    """Only the reader thread receives and decodes, only the step loop takes; the queue between them is the boundary.

    Events of background threads, such as the disk tier's, come the same way.

    A message is immutable and has one owner at a time, so the queue's own lock is the only one. ``take`` wakes as soon
    as a message is there, so a waiting loop hears a cancel at once.

    A closed link means that the front is gone. Then nothing need be flushed, and the loop may be inside a
    device operation of seconds: the reader thread ends the process itself, without asking.
    """

    def __init__(self, link: socket.socket) -> None:
        self._link = link
        self._decoder: Decoder[ToEngine] = Decoder(ToEngine)  # type: ignore[arg-type]  # a union is not a type[T]
        self._queue: SimpleQueue[Heard] = SimpleQueue()

    def start(self) -> None:
        """Begin to listen, on a daemon thread that ends with the process."""
        threading.Thread(target=self._listen, name="inbox", daemon=True).start()

    def put(self, event: object) -> None:
        """Tell the loop of ``event``, from a background thread of this process."""
        self._queue.put(Background(event))

    def take(self, timeout_s: float) -> list[Heard]:
        """Return all that has arrived, in order; if nothing has, wait up to ``timeout_s`` for a first message."""
        messages: list[Heard] = []
        try:
            if timeout_s > 0:
                messages.append(self._queue.get(timeout=min(timeout_s, _LONGEST_WAIT_S)))
            while True:
                messages.append(self._queue.get_nowait())
        except Empty:
            return messages

    def _listen(self) -> None:
        try:
            self._read_to_the_end()
        except Exception:
            log.exception("the link cannot be read")  # a bug: both ends are ours
            os._exit(1)
        os._exit(0)

    def _read_to_the_end(self) -> None:
        while data := self._receive():
            for message in self._decoder.feed(data):
                if isinstance(message, Stop):
                    return
                self._queue.put(message)

    def _receive(self) -> bytes:
        try:
            return self._link.recv(1 << 16)
        except ConnectionError:
            return b""
