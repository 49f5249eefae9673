"""The disk tier keeps to its limit, and the least recently used files go first."""

from __future__ import annotations

import os
from contextlib import ExitStack, suppress
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlx_sidecar.engine.cache.disk.format import Unfinished
from mlx_sidecar.engine.cache.disk.ledger import held
from mlx_sidecar.engine.cache.disk.quota import DiskQuota, Full
from mlx_sidecar.engine.cache.disk.store import DiskStore
from mlx_sidecar.engine.cache.segment import BLOCK
from tests.support.segments import EVER, IDENTITY, chain, parent, prompt, segment, write


@pytest.fixture
def store(tmp_path: Path) -> DiskStore:
    return DiskStore(tmp_path / "prefixes", EVER)


def again(store: DiskStore, limit_bytes: int = EVER) -> DiskStore:
    """As a process sees it that starts later."""
    return DiskStore(store.directory, limit_bytes)


def age(path: Path, seconds: float) -> None:
    status = path.stat()
    os.utime(path, (status.st_atime - seconds, status.st_mtime - seconds))


def nbytes_of_one(store: DiskStore) -> int:
    path = write(store, prompt(BLOCK), segment(0, BLOCK))
    nbytes = path.stat().st_size
    store.clear(None)
    return nbytes


def test_the_limit_is_kept_and_the_least_recently_used_goes_first(store: DiskStore) -> None:
    size = nbytes_of_one(store)
    bounded = again(store, limit_bytes=10 * size)
    paths = []
    for seed in range(10):
        paths += chain(bounded, prompt(BLOCK, seed))
        age(paths[-1], 100 - seed)
    bounded.touch([paths[0]])
    paths += chain(bounded, prompt(BLOCK, 10))
    assert bounded.quota.used_bytes <= bounded.limit_bytes
    assert bounded.deleted == [paths[1], paths[2]]  # the second for the slack
    assert [path.exists() for path in paths] == [True, False, False, *[True] * 8]
    assert bounded.counters["disk_evicted"] == 2


def test_of_a_chain_that_is_used_as_one_the_end_goes_first(store: DiskStore) -> None:
    size = nbytes_of_one(store)
    bounded = again(store, limit_bytes=int(8.5 * size))
    trunk = chain(bounded, prompt(8 * BLOCK))
    bounded.touch(trunk)
    chain(bounded, prompt(BLOCK, seed=1))
    kept = [path.exists() for path in trunk]
    assert kept == sorted(kept, reverse=True)
    assert 0 < sum(kept) < 8


def test_a_write_does_not_evict_what_it_follows(store: DiskStore) -> None:
    size = nbytes_of_one(store)
    bounded = again(store, limit_bytes=int(4.5 * size))
    tokens = prompt(3 * BLOCK)
    trunk = chain(bounded, tokens[: 2 * BLOCK])
    others = chain(bounded, prompt(2 * BLOCK, seed=1))
    for path in trunk:
        age(path, 1000)
    written = bounded.write(
        IDENTITY, parent(tokens, 2 * BLOCK), segment(2 * BLOCK, 3 * BLOCK), tokens[2 * BLOCK :], trunk
    )
    assert written is not None
    stamps = {path.stat().st_mtime_ns for path in [*trunk, written[0]]}
    assert len(stamps) == 1
    assert not all(path.exists() for path in others)


def test_room_is_made_for_what_other_processes_wrote(store: DiskStore) -> None:
    size = nbytes_of_one(store)
    stores = [again(store, limit_bytes=40 * size) for _ in range(4)]
    for seed in range(100):
        chain(stores[seed % 4], prompt(BLOCK, seed))
        assert again(store).quota.used_bytes <= 40 * size


@given(st.lists(st.tuples(st.integers(0, 2), st.sampled_from(["reserve", "keep", "give up", "stop"])), max_size=40))
def test_the_limit_is_kept_at_every_moment_of_writes_that_overlap(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[int, str]]
) -> None:
    directory = tmp_path_factory.mktemp("prefixes")
    (directory / IDENTITY).mkdir()
    quotas = [DiskQuota(directory, 1000) for _ in range(3)]
    writing: dict[int, ExitStack] = {}
    stopped: list[ExitStack] = []
    files: dict[int, Unfinished] = {}
    for number, (process, step) in enumerate(steps):
        if step == "reserve" and process not in writing:
            stack, path = ExitStack(), directory / IDENTITY / f"0-{number + 1}-{'0' * 32}.safetensors"
            with suppress(Full):
                files[process] = stack.enter_context(quotas[process].reserve(path, 300))
                writing[process] = stack
        elif step == "keep" and process in writing:
            quotas[process].keep(files[process], 300)
            writing.pop(process).close()
        elif step == "give up" and process in writing:
            writing.pop(process).close()
        elif step == "stop" and process in writing:
            stopped.append(writing.pop(process))
        assert sum(path.stat().st_size for path in (directory / IDENTITY).iterdir()) <= 1000
    for stack in [*writing.values(), *stopped]:
        stack.close()


def test_what_a_process_that_was_killed_was_writing_counts(store: DiskStore) -> None:
    size = nbytes_of_one(store)
    bounded = again(store, limit_bytes=4 * size)
    unfinished = bounded.directory / IDENTITY / ".0123456789abcdef.tmp"
    unfinished.parent.mkdir(exist_ok=True)
    unfinished.write_bytes(bytes(3 * size))
    for seed in range(3):
        chain(again(bounded, bounded.limit_bytes), prompt(BLOCK, seed))
    assert again(bounded).quota.files == 1


def test_while_a_process_that_was_stopped_holds_the_ledger_others_do_without_their_file(store: DiskStore) -> None:
    with held(store.directory):
        assert store.write(IDENTITY, None, segment(0, 9), prompt(9)) is None
        assert again(store).quota.files == 0
    assert store.counters["disk_unwritten"] == 1
    assert store.write(IDENTITY, None, segment(0, 9), prompt(9)) is not None


def test_a_ledger_that_promises_too_much_is_put_right_and_evicts_nothing(store: DiskStore) -> None:
    size = nbytes_of_one(store)
    bounded = again(store, limit_bytes=10 * size)
    for seed in range(5):
        chain(bounded, prompt(BLOCK, seed))
    with held(bounded.directory) as ledger:
        ledger.promised_bytes = 10 * size
    chain(bounded, prompt(BLOCK, 5))
    assert bounded.counters["disk_evicted"] == 0
    with held(bounded.directory) as ledger:
        assert ledger.promised_bytes == 6 * size


def test_what_is_larger_than_the_limit_is_not_written(store: DiskStore) -> None:
    bounded = again(store, limit_bytes=100)
    assert bounded.write(IDENTITY, None, segment(0, 9), prompt(9)) is None
    assert not bounded.quota.survey()


def test_what_an_interrupted_write_left_goes_when_it_is_old(store: DiskStore) -> None:
    folder = write(store, prompt(9), segment(0, 9)).parent
    old, fresh = folder / ".old.tmp", folder / ".fresh.tmp"
    for path in (old, fresh):
        path.write_bytes(b"x")
    age(old, 2 * 3600)
    again(store)
    assert not old.exists()
    assert fresh.exists()


@given(st.lists(st.tuples(st.sampled_from(["write", "touch", "vanish"]), st.integers(0, 9)), max_size=30))
def test_the_order_of_eviction_is_that_of_use(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int]]
) -> None:
    store = DiskStore(tmp_path_factory.mktemp("prefixes"), EVER)
    used: dict[Path, None] = {}
    for clock, (step, seed) in enumerate(steps):
        path = chain(store, prompt(BLOCK, seed))[0]
        if step == "vanish":
            path.unlink()
        used.pop(path, None)
        if step != "vanish":
            store.touch([path], now_ns=clock * 10**9)
            used[path] = None
    size = max((file.nbytes for file in store.quota.survey()), default=1)
    bounded = again(store, limit_bytes=4 * size)
    (bounded.directory / IDENTITY).mkdir(exist_ok=True)
    with bounded.quota.reserve(bounded.directory / IDENTITY / "new", size):
        pass
    assert [path.exists() for path in used] == sorted(path.exists() for path in used)
    assert all(before.stat().st_mtime < after.stat().st_mtime for before, after in pairwise(filter(Path.exists, used)))
    assert bounded.quota.used_bytes + size <= bounded.limit_bytes
