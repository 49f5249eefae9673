"""A step loop's part in the disk tier."""

from __future__ import annotations

import threading
from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from typing import TypeVar

from mlx_sidecar.engine.cache.disk.events import DiskEvent, Fetched, Written
from mlx_sidecar.engine.cache.disk.tier import DiskTier
from mlx_sidecar.engine.cache.segment import BLOCK, Segment
from tests.support.segments import EVER, IDENTITY, OTHER, segment

Told = TypeVar("Told", bound=DiskEvent)


class Loop:
    """In place of a step loop: asks the tier, and takes its events. It can be slow to take them: ``hold``."""

    def __init__(self, directory: Path | None, limit_bytes: int = EVER, pending_limit_bytes: int = EVER) -> None:
        self._told: SimpleQueue[DiskEvent] = SimpleQueue()
        self._door = threading.Condition()
        self._passes = float("inf")
        self._stands = False
        self.tier = DiskTier(directory, limit_bytes, self._post, pending_limit_bytes)

    def _post(self, result: DiskEvent) -> None:
        with self._door:
            self._stands = True
            self._door.notify_all()
            self._door.wait_for(lambda: self._passes)
            self._passes -= 1
            self._stands = False
            self._told.put(result)

    def everything(self) -> list[DiskEvent]:
        """The events told by the time all is done, and not taken before."""
        self.tier.drain()
        return [self._told.get() for _ in range(self._told.qsize())]

    def told(self, kind: type[Told]) -> list[Told]:
        """All of a kind; the rest is forgotten."""
        return [result for result in self.everything() if isinstance(result, kind)]

    def hold(self) -> None:
        """Let the tier do something, and not get rid of what it has to say of it until told to ``go_on``."""
        with self._door:
            self._passes = 0
            self.tier.clear(0, OTHER)
            self._door.wait_for(lambda: self._stands)

    def take_one(self) -> None:
        """Hear the tier's held event; then it is held again with the next."""
        with self._door:
            self._passes = 1
            self._door.notify_all()
            self._door.wait_for(lambda: self._stands and not self._passes)

    def go_on(self) -> None:
        with self._door:
            self._passes = float("inf")
            self._door.notify_all()

    def written(self, tokens: array[int], blocks: int = 1) -> list[Path]:
        """Write all of ``tokens``, so many blocks to a file."""
        step = blocks * BLOCK
        for start in range(0, len(tokens), step):
            assert self.tier.write(IDENTITY, segment(start, min(start + step, len(tokens)), seed=start), tokens)
        return [written.entry.path for written in self.told(Written)]

    def read(self, paths: list[Path]) -> list[Segment | None]:
        self.tier.read(1, paths)
        return [fetched.segment for fetched in self.told(Fetched)]


Start = Callable[..., Loop]


@contextmanager
def loops(directory: Path) -> Iterator[Start]:
    """Starts one after the other, with the arguments of ``Loop``; at the end none is left."""
    started: list[Loop] = []

    def start(directory: Path | None = directory, **limits: int) -> Loop:
        started.append(Loop(directory, **limits))
        return started[-1]

    yield start
    for loop in started:
        loop.go_on()
        loop.tier.close()
