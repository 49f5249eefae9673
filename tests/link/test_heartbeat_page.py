"""The page that engine and front share."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from mlx_sidecar.link.heartbeat_page import SIZE_BYTES, HeartbeatPage, Snapshot

IDS = st.lists(st.integers(0, 2**64 - 1), max_size=600)
NOTES = st.lists(
    st.one_of(
        st.tuples(st.just("begin"), st.sampled_from(["step", "load", "message"]), IDS, st.floats(0, 1e9)),
        st.tuples(st.just("end"), st.floats(0, 1e9), IDS),
        st.tuples(st.just("landed")),
        st.tuples(st.just("note"), st.integers(0, 2**63), st.integers(0, 2**31)),
    )
)


@contextmanager
def both_ends() -> Iterator[tuple[HeartbeatPage, HeartbeatPage]]:
    engine = HeartbeatPage.create()
    front = HeartbeatPage(os.dup(engine.fd))
    try:
        yield engine, front
    finally:
        engine.close()
        front.close()


def test_a_new_page_is_empty() -> None:
    with both_ends() as (engine, front):
        assert engine.read() == front.read() == Snapshot()


@given(NOTES)
def test_the_front_reads_what_the_engine_noted_last(notes: list[tuple[Any, ...]]) -> None:
    expected = Snapshot()
    with both_ends() as (engine, front):
        for what, *how in notes:
            if what == "begin":
                kind, ids, bound_s = how
                engine.begin(kind, ids, bound_s)
                shown = tuple(ids[: len(front.read().ids)])
                assert len(shown) == min(len(ids), 247)
                expected = expected._replace(kind=kind, ids=shown, bound_s=bound_s, operating=True)
            elif what == "end":
                now, in_flight = how
                engine.end(now, in_flight)
                if expected.kind != "message":
                    expected = expected._replace(ended_s=now, operations=expected.operations + 1)
                expected = expected._replace(
                    operating=False, kind="step" if in_flight else "", ids=tuple(in_flight[:247])
                )
            elif what == "landed":
                engine.landed()
                expected = expected._replace(kind="", ids=())
            else:
                taken, models = how
                engine.note(taken=taken, models=models)
                expected = expected._replace(taken=taken, models=models)
            assert front.read() == expected


# Every field says the same number; ids as many as it says.
WRITER = """
import sys
from mlx_sidecar.link.heartbeat_page import HeartbeatPage
page = HeartbeatPage(int(sys.argv[1]))
number = 0
while True:
    number = number % 200 + 1
    page.begin("step", [number] * number, float(number))
"""


def whole(seen: Snapshot) -> bool:
    return seen.ids == (int(seen.bound_s),) * int(seen.bound_s)


def test_a_page_that_another_process_writes_is_never_torn() -> None:
    with both_ends() as (engine, front):
        path = os.pathsep.join(path for path in sys.path if path)
        command = [sys.executable, "-c", WRITER, str(engine.fd)]
        with subprocess.Popen(command, pass_fds=[engine.fd], env={"PYTHONPATH": path}) as process:
            try:
                seen: set[int] = set()
                while len(seen) < 100:
                    assert process.poll() is None, "the writer has ended"
                    snapshot = front.read()
                    assert whole(snapshot), snapshot
                    seen.add(len(snapshot.ids))
            finally:
                process.kill()
        assert whole(front.read())  # wherever the kill struck


def test_a_page_that_another_thread_writes_is_never_torn() -> None:
    with both_ends() as (engine, front):
        done = threading.Event()

        def write() -> None:
            number = 0
            while not done.is_set():
                number = number % 200 + 1
                engine.begin("step", [number] * number, float(number))

        writer = threading.Thread(target=write)
        writer.start()
        try:
            for _ in range(20_000):
                assert whole(front.read())
        finally:
            done.set()
            writer.join()


@given(st.binary(min_size=1, max_size=200))
def test_whatever_an_engine_has_written_over_its_page_can_be_read(data: bytes) -> None:
    with both_ends() as (engine, front):
        os.pwrite(engine.fd, (data * SIZE_BYTES)[:SIZE_BYTES], 0)
        assert len(front.read().ids) <= 247
