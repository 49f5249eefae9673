"""The disk tier's queue orders jobs, and drops some."""

from __future__ import annotations

from pathlib import Path

from mlx_sidecar.engine.cache.disk.queue import Queue, Read
from tests.support.segments import EVER, IDENTITY, OTHER

A, B = Path("a"), Path("b")


def nothing() -> None:
    pass


def test_a_file_that_is_read_when_its_read_is_cancelled_is_nobodys() -> None:
    queue = Queue(EVER)
    queue.read(1, [A, B])
    read = queue.next()
    assert isinstance(read, Read)
    queue.cancel(1)
    assert not queue.fetched(read, match=True)


def test_a_miss_ends_its_read_and_no_other() -> None:
    queue = Queue(EVER)
    queue.read(1, [A, B])
    queue.read(2, [B])
    missed = queue.next()
    assert isinstance(missed, Read)
    assert queue.fetched(missed, match=False)
    assert queue.next() == Read(2, B, 0)


def test_what_is_written_takes_room_until_something_else_is_done() -> None:
    queue = Queue(pending_limit_bytes=10)
    assert queue.write(nothing, IDENTITY, 10)
    queue.put(nothing)
    queue.next()
    assert not queue.write(nothing, IDENTITY, 1)
    queue.next()
    assert not queue.write(nothing, IDENTITY, 1)  # it is being written
    queue.put(nothing)
    queue.next()
    assert queue.write(nothing, IDENTITY, 10)
    assert queue.writes_dropped == 2


def test_writes_of_one_identity_are_forgotten_and_give_their_room_back() -> None:
    queue = Queue(pending_limit_bytes=10)
    assert queue.write(nothing, IDENTITY, 6)
    assert queue.write(nothing, OTHER, 4)
    queue.drop_writes(IDENTITY)
    assert queue.write(nothing, OTHER, 6)
    queue.drop_writes(None)
    assert queue.write(nothing, OTHER, 10)


def test_a_closed_queue_gives_what_it_holds_and_then_nothing() -> None:
    queue = Queue(EVER)
    queue.read(1, [A])
    queue.close()
    read = queue.next()
    assert isinstance(read, Read)
    queue.fetched(read, match=True)
    assert queue.next() is None
