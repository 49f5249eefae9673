"""A process that uses a directory of the disk tier, for tests that start several or kill one."""

from __future__ import annotations

import random
import resource
import sys
from array import array
from collections.abc import Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path

from mlx_sidecar.engine.cache.disk.events import DiskEvent
from mlx_sidecar.engine.cache.disk.ledger import held
from mlx_sidecar.engine.cache.disk.store import DiskStore
from mlx_sidecar.engine.cache.disk.tier import DiskTier
from mlx_sidecar.engine.cache.segment import BLOCK, Segment
from tests.support.segments import IDENTITY, prompt, same, segment

_BYTES_PER_NUMBER = 4


def tokens_of(seed: int) -> array[int]:
    return array("i", [seed, *prompt(BLOCK - 1, seed)])


def segment_of(seed: int, nbytes: int) -> Segment:
    return segment(0, BLOCK, shapes=[(1, 1, nbytes // BLOCK // _BYTES_PER_NUMBER)], seed=seed)


def check(store: DiskStore, nbytes: int) -> int:
    """Read all that was not seen before; how many there are. Each is what one of us wrote, or was evicted meanwhile."""
    read = 0
    for path, header in store.scan(IDENTITY).found:
        found = store.read(path)
        if found is not None:
            assert same(found, segment_of(header.tokens[0], nbytes))
            read += 1
    return read


def churn(directory: Path, limit_bytes: int, nbytes: int, seed: int) -> None:
    """Write, read what others wrote, and evict; of all bytes that are there at a time, tell the most."""
    store, draw = DiskStore(directory, limit_bytes), random.Random(seed)
    read = most_bytes = 0
    for _ in range(120):
        written = draw.randrange(200)
        store.write(IDENTITY, None, segment_of(written, nbytes), tokens_of(written))
        read += check(store, nbytes)
        with held(directory):  # nothing is added meanwhile
            most_bytes = max(most_bytes, sum(_sizes(directory)))
    print(read, store.counters["disk_damaged"], store.counters["disk_evicted"], most_bytes)


def _sizes(directory: Path) -> Iterator[int]:
    for path in directory.glob("*/*"):
        with suppress(FileNotFoundError):
            yield path.stat().st_size


def write_for_ever(directory: Path, limit_bytes: int, nbytes: int, seed: int) -> None:
    """A line for each file that is there."""
    store = DiskStore(directory, limit_bytes)
    for written in count(seed):
        store.write(IDENTITY, None, segment_of(written, nbytes), tokens_of(written))
        print(written, flush=True)


def fill(directory: Path, limit_bytes: int, nbytes: int, seed: int) -> None:
    """Write more than the disk takes: no file may grow beyond 100 kB."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
    results: list[DiskEvent] = []
    tier = DiskTier(directory, limit_bytes, results.append)
    for written, size in ((seed, 1000), (seed + 1, nbytes), (seed + 2, 1000)):
        tier.write(IDENTITY, segment_of(written, size), tokens_of(written))
    tier.drain()
    print(*(type(result).__name__ for result in results), *tier.figures[:2], sep=",")


if __name__ == "__main__":
    action = {"churn": churn, "write_for_ever": write_for_ever, "fill": fill}[sys.argv[1]]
    action(Path(sys.argv[2]), *map(int, sys.argv[3:]))
