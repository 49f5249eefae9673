"""Bytes that are read before there is an event loop, and while one is attached, reach it in their order."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

from mlx_sidecar.front.wire.reader import Reader

SOON_S = 10.0
# For the fault that is looked for, a chunk that overtakes others, to show itself; without it all of it is waited for.
OVERTAKEN_WITHIN_S = 0.2


class Attaching:
    """A loop to which a reader is being attached. In the midst of that another chunk comes, ``late``."""

    def __init__(self, to_reader: int, read: threading.Event, late: bytes) -> None:
        self.called: list[object] = []
        self.has_all = threading.Event()
        self._to_reader, self._read, self._late = to_reader, read, late
        self._overtaken = threading.Event()
        self._attaching = threading.get_ident()

    def call_soon_threadsafe(self, callback: Callable[..., object], *args: object) -> None:
        if threading.get_ident() != self._attaching:
            self._overtaken.set()
        elif not self.called:
            self._read.clear()
            os.write(self._to_reader, self._late)
            assert self._read.wait(SOON_S)
            self._overtaken.wait(OVERTAKEN_WITHIN_S)
        self.called += args
        if self._late in args:
            self.has_all.set()

    def call_soon(self, callback: Callable[..., object], *args: object) -> None:
        raise AssertionError("not while a loop is attached")

    def add_reader(self, fd: int, callback: Callable[..., object], *args: object) -> None:
        raise AssertionError("not while a loop is attached")

    def remove_reader(self, fd: int) -> None:
        raise AssertionError("not while a loop is attached")


class Watched(Reader):
    """Tells of each chunk that its thread has read, and has kept."""

    def __init__(self, fd: int) -> None:
        super().__init__(fd)
        self.has_read, self.has_kept = threading.Event(), threading.Event()

    def _chunk(self) -> bytes | None:
        chunk = super()._chunk()
        self.has_read.set()
        return chunk

    def _keep(self, chunk: bytes | None) -> bool:
        kept = super()._keep(chunk)
        self.has_kept.set()
        return kept


def test_a_chunk_that_comes_while_a_loop_is_attached_does_not_overtake_those_before_it() -> None:
    to_us, to_reader = os.pipe()
    reader = Watched(to_us)
    reader.start()
    early = [b"first", b"second"]
    for chunk in early:
        reader.has_kept.clear()
        os.write(to_reader, chunk)
        assert reader.has_kept.wait(SOON_S)
    loop = Attaching(to_reader, reader.has_read, b"late")
    reader.attach(loop, lambda _: None, lambda: None)
    assert loop.has_all.wait(SOON_S)
    assert loop.called[:3] == [*early, b"late"]
    os.close(to_reader)
