"""A batch with a prefix cache and a disk tier, without the engine's loop, so that waits for the disk are visible."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import NamedTuple

from mlx_sidecar.engine.cache.disk.events import DiskEvent
from mlx_sidecar.engine.cache.disk.tier import DiskTier
from mlx_sidecar.engine.cache.disk_index import DiskIndex
from mlx_sidecar.engine.cache.identity import identity
from mlx_sidecar.engine.cache.prefix_cache import PrefixCache
from mlx_sidecar.engine.cache.store import Store
from mlx_sidecar.engine.core.asked import Asked
from mlx_sidecar.engine.core.batch import Role, Work
from mlx_sidecar.engine.core.memory_cost import SequenceCost
from mlx_sidecar.engine.core.sequence import Sequence
from mlx_sidecar.engine.execution import mlxlm
from mlx_sidecar.engine.execution.mlx_batch import MlxBatch
from mlx_sidecar.engine.execution.probe import Probed, probe
from mlx_sidecar.link.messages import Generate, Sampling

LIMIT_BYTES = 1 << 32
CHUNK = 128


class Said(NamedTuple):
    """An answer, and how much of its prompt came from memory and disk together, and from disk."""

    tokens: list[int]
    cached: int
    disk: int


class Rig:
    """One model and one life of an engine. ``directory``: where its cache is on disk."""

    def __init__(self, geometry: Probed, directory: Path | None, made_by: str = "a model") -> None:
        self._results: SimpleQueue[DiskEvent] = SimpleQueue()
        self.tier = DiskTier(directory, LIMIT_BYTES, self._results.put)
        self.prefix_cache = PrefixCache(Store(LIMIT_BYTES), DiskIndex(self.tier, directory, LIMIT_BYTES))
        self.prefixes = self.prefix_cache.prefixes(identity(made_by), geometry.forward.spec)
        self._batch = MlxBatch(geometry.forward, geometry.vocabulary, LIMIT_BYTES, self.prefixes)
        self._numbers = count(1)
        self._settle()

    def generate(self, prompt: list[int], limit: int) -> Said:
        sequence = Sequence(
            Asked(
                id=next(self._numbers),
                model="m",
                goal=Generate(Sampling(), [], limit),
                tokens=prompt,
                limit=limit,
                cost=SequenceCost(),
                arrived_s=0.0,
                sampling=Sampling(),
                stop_tokens=[],
            )
        )
        if self.prefixes is not None and self.prefix_cache.disk.read(sequence.id, self.prefixes, sequence.history()):
            for _, numbers in self._settle():
                sequence.prefix.fetched = numbers
        self._batch.open(sequence)
        while not sequence.spent or self._batch.in_flight:
            role = Role.DECODE if sequence.pending == 1 else Role.PREFILL
            waits = sequence.spent or (self._batch.in_flight and role is Role.PREFILL)
            self._batch.step([] if waits else [Work(sequence, min(sequence.pending, CHUNK), role)], 0.0)
        self._batch.close(sequence, keep=True)
        return Said(sequence.generated, sequence.cached_tokens, sequence.cached_disk)

    def write(self) -> None:
        """Wait until everything is on disk."""
        self.prefix_cache.write()
        self._settle()

    def close(self) -> None:
        self.tier.close()

    def _settle(self) -> list[tuple[int, set[int]]]:
        """Take the events of the disk, and return the reads that have ended."""
        self.tier.drain()
        reads: list[tuple[int, set[int]]] = []
        while True:
            try:
                read = self.prefix_cache.disk.taken_in(self._results.get_nowait())
            except Empty:
                return reads
            if read is not None:
                reads.append(read)


@contextmanager
def rig(geometry: Probed, directory: Path | None, made_by: str = "a model") -> Iterator[Rig]:
    made = Rig(geometry, directory, made_by)
    try:
        yield made
    finally:
        made.close()


def load(path: Path) -> Probed:
    return probe(path.name, mlxlm.load_model(path)[0])
