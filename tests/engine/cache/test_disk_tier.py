"""The disk tier as the step loop meets it: asks, and is told."""

from __future__ import annotations

import logging
import os
from array import array
from collections.abc import Iterator
from pathlib import Path

import mlx.core as mx
import pytest

from mlx_sidecar.engine.cache.disk.events import Cleared, Deleted, Failed, Fetched, Scanned, Written
from mlx_sidecar.engine.cache.segment import BLOCK, Segment
from tests.support.disk_loop import Start, loops
from tests.support.segments import IDENTITY, OTHER, prompt, same, segment


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    with loops(tmp_path / "prefixes") as start:
        yield start


def test_what_is_written_is_found_and_read_after_a_restart(start: Start) -> None:
    tokens = prompt(5 * BLOCK + 7)
    paths = start().written(tokens, blocks=2)
    later = start()
    later.tier.scan(IDENTITY)
    (scanned,) = later.told(Scanned)
    assert scanned.done
    assert [entry.path for entry in scanned.entries] == paths
    assert [(entry.start, entry.stop) for entry in scanned.entries] == [(0, 128), (128, 256), (256, 327)]
    assert all(entry.tokens == tokens[: entry.stop] for entry in scanned.entries)
    later.tier.read(7, paths)
    fetched = later.told(Fetched)
    assert [(one.key, one.path, one.left) for one in fetched] == [(7, paths[0], 2), (7, paths[1], 1), (7, paths[2], 0)]
    assert all(
        same(one.segment, segment(*stretch, seed=stretch[0]))
        for one, stretch in zip(fetched, [(0, 128), (128, 256), (256, 327)], strict=True)
    )


def test_what_was_read_is_at_once_of_use_to_the_loop(start: Start) -> None:
    loop = start()
    made = segment(0, BLOCK, dtype=mx.bfloat16, checkpoints=[(3,), None])
    assert loop.tier.write(IDENTITY, made, prompt(BLOCK))
    (written,) = loop.told(Written)
    (read,) = loop.read([written.entry.path])
    assert read is not None
    assert mx.array_equal(read.spans[0].data * 2, made.spans[0].data * 2)
    assert written.entry.checkpointed
    assert written.entry.firsts == (0,)


def test_the_loop_may_go_on_with_its_tokens_while_they_are_written(start: Start) -> None:
    loop = start()
    loop.hold()
    tokens = prompt(BLOCK)
    loop.tier.write(IDENTITY, segment(0, BLOCK), tokens)
    tokens.append(1)
    loop.go_on()
    (written,) = loop.told(Written)
    assert written.entry.tokens == tokens[:BLOCK]


def test_a_read_ends_with_the_first_miss(start: Start) -> None:
    loop = start()
    paths = loop.written(prompt(4 * BLOCK))
    paths[1].unlink()
    loop.tier.read(3, paths)
    assert [(one.path, one.segment is None, one.left) for one in loop.told(Fetched)] == [
        (paths[0], False, 3),
        (paths[1], True, 0),
    ]


def test_reads_go_before_writes_and_what_was_asked_earlier(start: Start) -> None:
    loop = start()
    paths = loop.written(prompt(2 * BLOCK))
    loop.hold()
    loop.tier.write(IDENTITY, segment(0, BLOCK, seed=5), prompt(BLOCK, seed=5))
    loop.tier.scan(IDENTITY, afresh=True)
    loop.tier.read(1, paths[:1])
    loop.tier.read(2, paths[1:])
    loop.go_on()
    order = [type(result) for result in loop.everything()]
    assert order == [Cleared, Fetched, Fetched, Scanned, Written]


def test_nothing_comes_of_a_read_that_is_cancelled(start: Start) -> None:
    loop = start()
    paths = loop.written(prompt(3 * BLOCK))
    loop.hold()
    loop.tier.read(1, paths)
    loop.tier.read(2, paths)
    loop.tier.cancel(1)
    loop.tier.cancel(99)
    loop.go_on()
    assert [one.key for one in loop.told(Fetched)] == [2, 2, 2]


def test_a_read_is_cancelled_in_the_middle(start: Start) -> None:
    loop = start()
    paths = loop.written(prompt(3 * BLOCK))
    loop.hold()
    loop.tier.read(1, paths)
    loop.take_one()
    loop.tier.cancel(1)  # the first file is read, and on its way
    loop.go_on()
    assert [one.path for one in loop.told(Fetched)] == paths[:1]
    assert None not in loop.read(paths)


def test_more_than_may_wait_is_dropped_and_counted_and_nobody_waits(start: Start) -> None:
    made, tokens = segment(0, BLOCK), prompt(BLOCK)
    loop = start(pending_limit_bytes=2 * (made.nbytes + 4 * BLOCK))
    loop.hold()
    assert [loop.tier.write(IDENTITY, made, tokens) for _ in range(3)] == [True, True, False]
    loop.go_on()
    assert len(loop.told(Written)) == 2
    assert loop.tier.figures.counters["writes_dropped"] == 1
    assert loop.tier.write(IDENTITY, made, tokens)


def test_what_is_evicted_is_told(start: Start) -> None:
    loop = start()
    (path,) = loop.written(prompt(BLOCK))
    size = path.stat().st_size
    bounded = start(limit_bytes=5 * size)
    evicted: set[Path] = set()
    written: set[Path] = set()
    for seed in range(20):
        bounded.tier.write(IDENTITY, segment(0, BLOCK), prompt(BLOCK, seed))
        for told in bounded.everything():
            evicted |= set(told.paths) if isinstance(told, Deleted) else set()
            written |= {told.entry.path} if isinstance(told, Written) else set()
        assert bounded.tier.figures.used_bytes <= 5 * size
    assert {path for path in written if not path.exists()} == evicted
    assert bounded.tier.figures.counters["disk_evicted"] == len(evicted) > 10
    assert bounded.tier.figures.files == sum(path.exists() for path in written)


def test_a_damaged_file_is_a_miss_and_told(start: Start) -> None:
    loop = start()
    (path,) = loop.written(prompt(BLOCK))
    path.write_bytes(path.read_bytes()[:-1] + b"\xff")
    loop.tier.read(1, [path])
    told = loop.everything()
    assert told == [Fetched(1, path, None, 0), Deleted((path,))]
    assert loop.tier.figures.counters["disk_damaged"] == 1


def test_thousands_of_files_are_told_in_small_parts_that_reads_may_come_between(start: Start) -> None:
    loop = start()
    for seed in range(1000):
        loop.tier.write(IDENTITY, Segment(0, 3, ()), prompt(3, seed))
    (last, *_) = [written.entry.path for written in loop.told(Written)]
    loop.hold()
    loop.tier.scan(IDENTITY, afresh=True)
    loop.take_one()
    loop.tier.read(1, [last])
    loop.go_on()
    told = loop.everything()
    scanned = [result for result in told if isinstance(result, Scanned)]
    assert sum(len(part.entries) for part in scanned) == 1000
    assert max(len(part.entries) for part in scanned) <= 256
    assert [part.done for part in scanned] == [False] * (len(scanned) - 1) + [True]
    assert not isinstance(told[-1], Fetched)


def test_what_other_processes_write_and_delete_the_next_scan_tells(start: Start) -> None:
    ours, theirs = start(), start()
    trunk = ours.written(prompt(2 * BLOCK))
    theirs.tier.scan(IDENTITY)
    assert [entry.path for part in theirs.told(Scanned) for entry in part.entries] == trunk
    branch = ours.written(array("i", [*prompt(2 * BLOCK), *prompt(BLOCK, seed=3)]))[-1]
    trunk[1].unlink()
    theirs.tier.scan(IDENTITY)
    parts = theirs.told(Scanned)
    assert [path for part in parts for path in part.gone] == [trunk[1]]
    assert not any(part.entries for part in parts)  # of no use, because the blocks before it are gone
    ours.tier.write(IDENTITY, segment(BLOCK, 2 * BLOCK), prompt(2 * BLOCK))
    ours.told(Written)
    theirs.tier.scan(IDENTITY)
    assert [entry.path for part in theirs.told(Scanned) for entry in part.entries] == [trunk[1], branch]


def test_clearing_takes_what_is_written_and_what_waits_to_be(start: Start) -> None:
    loop = start()
    paths = loop.written(prompt(2 * BLOCK))
    size = sum(path.stat().st_size for path in paths)
    loop.hold()
    loop.tier.write(IDENTITY, segment(0, BLOCK), prompt(BLOCK, seed=1))
    loop.tier.write(OTHER, segment(0, BLOCK), prompt(BLOCK, seed=2))
    loop.tier.clear(4, IDENTITY)
    loop.go_on()
    told = loop.everything()
    assert told[1] == Cleared(4, IDENTITY, size)
    assert [result.identity for result in told if isinstance(result, Written)] == [OTHER]
    loop.tier.clear(5, None)
    loop.tier.scan(OTHER)
    assert not any(part.entries for part in loop.told(Scanned))
    assert loop.tier.figures.used_bytes == 0


def test_what_is_used_outlives_what_is_not(start: Start) -> None:
    loop = start()
    paths = [loop.written(prompt(BLOCK, seed))[0] for seed in range(4)]
    for seconds, path in enumerate(reversed(paths)):
        os.utime(path, (0, 1000 - seconds))
    loop.tier.touch(paths[:1])
    loop.tier.drain()
    bounded = start(limit_bytes=4 * paths[0].stat().st_size)
    bounded.written(prompt(BLOCK, seed=9))
    assert paths[0].exists()
    assert not paths[1].exists()


# When the disk fails.


def test_a_disk_that_cannot_be_used_is_told_once_and_everything_is_a_miss(
    start: Start, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    with caplog.at_level(logging.WARNING):
        loop = start(directory=tmp_path / "file" / "prefixes")
        assert [failed.because for failed in loop.told(Failed)] == ["Not a directory"]
    assert [record.message for record in caplog.records] == [
        "the disk tier of the prefix cache is off: Not a directory"
    ]
    assert loop.tier.figures[:2] == ("failed", "Not a directory")
    assert not loop.tier.write(IDENTITY, segment(0, 9), prompt(9))
    loop.tier.read(1, [tmp_path / "a", tmp_path / "b"])
    loop.tier.scan(IDENTITY)
    loop.tier.touch([tmp_path / "a"])
    loop.tier.clear(2, None)
    assert loop.everything() == [
        Fetched(1, tmp_path / "a", None, 0),
        Scanned(IDENTITY, (), (), done=True),
        Cleared(2, None, 0, "Not a directory"),
    ]


def test_a_bug_switches_the_tier_off_and_is_logged(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    loop = start()
    (path,) = loop.written(prompt(BLOCK))
    with caplog.at_level(logging.ERROR):
        loop.tier.write(IDENTITY, segment(0, 9), prompt(3))  # fewer tokens than it is of
        (failed,) = loop.told(Failed)
    assert "fit together" in failed.because
    assert caplog.records[0].exc_info is not None
    assert loop.read([path]) == [None]
