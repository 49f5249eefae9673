"""The transport is the interface of a session to the bytes of its host."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from .reader import Loop


class Incoming(Protocol):
    """The bytes of a host."""

    def attach(self, loop: Loop, on_chunk: Callable[[bytes], None], on_end: Callable[[], None]) -> None:
        """From now on call ``on_chunk`` in ``loop`` for each chunk, those read so far first, and ``on_end`` once."""

    def hold(self, held: bool) -> None:
        """In the loop: stop reading, or go on. A chunk or two may still come."""


class Outgoing(Protocol):
    """Writes the messages of an outlet. ``frame`` turns a body into wire bytes; nothing is sent before it is set.

    ``corked`` is set by the loop's thread while it is going to flush anyway.
    """

    frame: Callable[[bytes], bytes] | None
    corked: bool

    @property
    def broken(self) -> bool:
        """Nothing more can be written."""
        ...

    @property
    def lost(self) -> bool:
        """A write failed although there may be a reader, so that an answer is missing there."""
        ...

    @property
    def somebody_reads(self) -> bool:
        """Whether the host can still read. True where that cannot be told."""
        ...

    def start(self, loop: Loop, on_broken: Callable[[], None]) -> None:
        """In the thread of ``loop``. ``on_broken`` is called there, once, when a write finds no reader."""

    def watch_readers(self, on_gone: Callable[[], None]) -> None:
        """Once started: call ``on_gone`` in the loop when no process can read any more."""

    def flush(self) -> None:
        """In the loop: write all that waits, or leave it to a thread where writing may block."""

    def close(self, timeout_s: float) -> bool:
        """Write all that waits, as long as something of it is taken every ``timeout_s``, and stop.

        False if something could not be written.
        """
        ...
