"""The directory of the disk tier is scanned, damaged files are deleted, and foreign ones are left alone."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

import mlx.core as mx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlx_sidecar.engine.cache.disk.store import DiskFailed, DiskStore
from mlx_sidecar.engine.cache.segment import BLOCK
from tests.support.segments import EVER, IDENTITY, OTHER, chain, parent, prompt, same, segment, write


@pytest.fixture
def store(tmp_path: Path) -> DiskStore:
    return DiskStore(tmp_path / "prefixes", EVER)


def again(store: DiskStore, limit_bytes: int = EVER) -> DiskStore:
    """As a process sees it that starts later."""
    return DiskStore(store.directory, limit_bytes)


def found(store: DiskStore, identity: str = IDENTITY) -> list[Path]:
    return [path for path, _ in store.scan(identity).found]


def age(path: Path, seconds: float) -> None:
    status = path.stat()
    os.utime(path, (status.st_atime - seconds, status.st_mtime - seconds))


# Finding.


def test_what_one_process_wrote_the_next_one_finds_and_reads(store: DiskStore) -> None:
    tokens = prompt(200)
    made = segment(64, 200, dtype=mx.bfloat16, checkpoints=[(2, 2), None])
    path = write(store, tokens, made)
    later = again(store)
    ((found_path, header),) = later.scan(IDENTITY).found
    assert found_path == path
    assert header.tokens == tokens[64:]
    assert header.parent == parent(tokens, 64)
    assert same(later.read(path), made)


def test_each_identity_finds_its_own(store: DiskStore) -> None:
    ours, theirs = write(store, prompt(9), segment(0, 9)), write(store, prompt(9), segment(0, 9), OTHER)
    assert found(again(store)) == [ours]
    assert found(again(store), OTHER) == [theirs]
    assert again(store).quota.used_bytes == ours.stat().st_size + theirs.stat().st_size


def test_a_second_scan_tells_what_is_new_and_what_is_gone(store: DiskStore) -> None:
    first = chain(store, prompt(3 * BLOCK))
    other = again(store)
    assert found(other) == first
    new = chain(store, prompt(2 * BLOCK, seed=1))
    first[1].unlink()
    gone, more = other.scan(IDENTITY)
    assert gone == (first[1],)
    assert sorted(path for path, _ in more) == sorted(new)
    assert other.scan(IDENTITY).gone == ()
    assert not found(other)


def test_a_scan_afresh_tells_everything_again(store: DiskStore) -> None:
    paths = chain(store, prompt(3 * BLOCK))
    assert not found(store)
    assert [path for path, _ in store.scan(IDENTITY, afresh=True).found] == paths
    assert not found(store)


def test_what_comes_into_a_folder_where_nothing_happened_for_long_is_found(store: DiskStore) -> None:
    (first,) = chain(store, prompt(BLOCK))
    other = again(store)
    age(first.parent, 1000)
    assert found(other) == [first]
    assert not found(other)
    (second,) = chain(store, prompt(BLOCK, seed=1))
    assert found(other) == [second]
    second.unlink()
    assert other.scan(IDENTITY).gone == (second,)


def test_files_are_found_in_the_order_of_their_tokens(store: DiskStore) -> None:
    for seed in range(5):
        chain(store, prompt(3 * BLOCK, seed))
    starts = [header.start for _, header in again(store).scan(IDENTITY).found]
    assert starts == sorted(starts)


def test_folders_and_files_are_their_owners_alone(store: DiskStore) -> None:
    path = write(store, prompt(9), segment(0, 9))
    modes = [stat.S_IMODE(place.stat().st_mode) for place in (path, path.parent, store.directory)]
    assert modes == [0o600, 0o700, 0o700]


# Damaged and foreign files.


def test_a_damaged_file_is_a_miss_and_deleted(store: DiskStore) -> None:
    read, scanned = chain(store, prompt(2 * BLOCK))
    for path in (read, scanned):
        path.write_bytes(path.read_bytes()[:-1])
    later = again(store)
    assert later.read(read) is None
    assert not found(later)
    assert later.deleted == [read, scanned]
    assert later.counters["disk_damaged"] == 2
    assert not read.exists()
    assert not scanned.exists()
    assert later.quota.used_bytes == 0


def test_exchanged_files_are_damaged(store: DiskStore, tmp_path: Path) -> None:
    one, other = chain(store, prompt(BLOCK)) + chain(store, prompt(BLOCK, seed=1))
    one.rename(tmp_path / "spare")
    other.rename(one)
    (tmp_path / "spare").rename(other)
    assert store.read(one) is None
    assert not found(again(store))
    assert not other.exists()


def test_a_file_in_the_folder_of_another_identity_is_damaged(store: DiskStore) -> None:
    path = write(store, prompt(9), segment(0, 9))
    folder = store.directory / OTHER
    folder.mkdir()
    moved = path.rename(folder / path.name)
    assert store.read(moved) is None
    assert not moved.exists()


def test_a_file_of_another_version_is_left_alone_and_never_used(store: DiskStore) -> None:
    tokens = prompt(9)
    path = write(store, tokens, segment(0, 9))
    path.write_bytes(path.read_bytes().replace(b"mlx-sidecar prefix 1", b"mlx-sidecar prefix 2"))
    later = again(store)
    assert not found(later)
    assert not found(later)
    assert later.read(path) is None
    assert later.write(IDENTITY, None, segment(0, 9), tokens) is None
    assert b"mlx-sidecar prefix 2" in path.read_bytes()
    assert later.counters["disk_foreign"] > 0
    assert not later.deleted


def test_links_folders_and_strangers_are_not_touched(store: DiskStore, tmp_path: Path) -> None:
    kept, linked = chain(store, prompt(2 * BLOCK))
    outside = linked.rename(tmp_path / linked.name)
    linked.symlink_to(outside)
    (store.directory / OTHER).symlink_to(tmp_path, target_is_directory=True)
    (kept.parent / "notes.txt").write_text("mine")
    (kept.parent / f"0-1-{'0' * 32}.safetensors").mkdir()
    later = again(store, limit_bytes=1)
    assert found(later) == [kept]
    assert not found(later, OTHER)
    assert later.read(linked) is None
    assert later.quota.files == 1
    later.clear(None)
    assert not kept.exists()
    assert outside.exists()
    assert linked.is_symlink()
    assert (kept.parent / "notes.txt").read_text() == "mine"


def test_files_and_folders_may_vanish_at_any_time(store: DiskStore) -> None:
    paths = chain(store, prompt(3 * BLOCK))
    finding = again(store).scan(IDENTITY).found
    next(finding)
    paths[1].unlink()
    assert [path for path, _ in finding] == [paths[2]]
    shutil.rmtree(store.directory)
    assert store.read(paths[0]) is None
    assert store.scan(IDENTITY).gone
    store.touch(paths)
    assert store.clear(None) == 0
    assert write(store, prompt(9), segment(0, 9)).exists()


DAMAGES = ["flip", "cut", "grow", "exchange", "move", "delete", "empty", "noise"]
damages = st.lists(
    st.tuples(st.sampled_from(DAMAGES), st.integers(0, 3), st.integers(0, 3), st.floats(0, 0.99)), max_size=6
)


def damage(kind: str, path: Path, other: Path, where: float) -> None:
    content = path.read_bytes() if path.exists() else b""
    place = int(where * len(content))
    match kind:
        case "flip" if content:
            path.write_bytes(content[:place] + bytes([content[place] ^ 0x10]) + content[place + 1 :])
        case "exchange" if content and other.exists():
            path.write_bytes(other.read_bytes())
            other.write_bytes(content)
        case "move" if content:
            path.replace(other)
        case "delete":
            path.unlink(missing_ok=True)
        case _:
            path.write_bytes({"cut": content[:place], "grow": content + b"x", "empty": b""}.get(kind, b"noise"))


@given(damages)
def test_whatever_happens_to_files_what_is_found_and_read_is_what_was_written(
    tmp_path_factory: pytest.TempPathFactory, happens: list[tuple[str, int, int, float]]
) -> None:
    store = DiskStore(tmp_path_factory.mktemp("prefixes"), EVER)
    paths = chain(store, prompt(3 * BLOCK)) + chain(store, prompt(BLOCK, seed=1))
    content = {path: path.read_bytes() for path in paths}
    for kind, one, other, where in happens:
        damage(kind, paths[one], paths[other], where)
    intact = [path for path in paths if path.exists() and path.read_bytes() == content[path]]
    later = again(store)
    assert set(found(later)) >= set(intact)  # by their headers alone
    for path, start in zip(paths, [0, BLOCK, 2 * BLOCK, 0], strict=True):
        read = later.read(path)
        assert (read is not None) == (path in intact)
        assert read is None or same(read, segment(start, start + BLOCK, seed=start))
    left = {path for path in paths if path.exists()} - set(intact)
    assert len(left) <= later.counters["disk_foreign"]  # a byte in the name of the version is enough


# Writing.


def test_the_same_is_not_written_twice(store: DiskStore) -> None:
    tokens = prompt(BLOCK)
    path = write(store, tokens, segment(0, BLOCK))
    age(path, 100)
    before = path.stat()
    later = again(store)
    assert write(later, tokens, segment(0, BLOCK)) == path
    assert later.counters["disk_writes"] == 0
    assert path.stat().st_ino == before.st_ino
    assert path.stat().st_mtime > before.st_mtime


def test_states_of_layers_replace_a_file_that_lacks_them_and_not_the_other_way(store: DiskStore) -> None:
    tokens = prompt(BLOCK)
    plain, checkpointed = segment(0, BLOCK), segment(0, BLOCK, checkpoints=[(3,)])
    path = write(store, tokens, plain)
    assert write(store, tokens, checkpointed) == path
    written = store.write(IDENTITY, None, plain, tokens)
    assert written is not None
    assert written[1].checkpoints
    assert same(store.read(path), checkpointed)
    assert store.quota.used_bytes == path.stat().st_size
    assert store.quota.files == 1


def test_a_damaged_file_is_written_anew(store: DiskStore) -> None:
    tokens = prompt(BLOCK)
    path = write(store, tokens, segment(0, BLOCK))
    path.write_bytes(b"")
    assert write(store, tokens, segment(0, BLOCK)) == path
    assert same(store.read(path), segment(0, BLOCK))
    assert not store.deleted


def test_clearing_frees_one_identity_or_all(store: DiskStore) -> None:
    ours = sum(path.stat().st_size for path in chain(store, prompt(3 * BLOCK)))
    theirs = write(store, prompt(9), segment(0, 9), OTHER)
    size = theirs.stat().st_size
    assert store.clear(IDENTITY) == ours
    assert theirs.exists()
    assert store.quota.used_bytes == size
    assert store.clear(None) == size
    assert store.quota.files == 0


def test_a_directory_that_cannot_be_is_a_failure(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DiskFailed):
        DiskStore(tmp_path / "file" / "prefixes", EVER)
