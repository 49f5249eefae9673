"""Whatever a host writes, the sidecar stays, keeps to the schema, and answers each well-formed request.

The long form is ``python -m benchmarks.faults fuzz``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import count
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks.faults import fuzz
from benchmarks.faults.frames import Frames, Framing, framed
from mlx_sidecar_protocol.framing import FrameDecoder
from mlx_sidecar_protocol.model import Received
from mlx_sidecar_protocol.registry import METHODS
from tests.support.sidecar import Sidecar, sidecar
from tests.support.strategies import JSON, attempts

FRAMINGS: list[Framing] = ["lines", "headers"]
SEEDS = st.integers(0, 2**32)
NAMES = [name for name in METHODS if name not in ("exit", "shutdown")]


def messages(name: str) -> st.SearchStrategy[bytes]:
    """A message of a method, as a host might make it."""
    params = METHODS[name].params
    return st.fixed_dictionaries(
        {"jsonrpc": st.just("2.0"), "method": st.just(name)},
        optional={
            "id": st.integers(0, 9) | JSON,
            "params": JSON | attempts(params) if issubclass(params, Received) else JSON,
            "result": JSON,
        },
    ).map(lambda message: json.dumps(message).encode())


ANYTHING = st.binary() | JSON.map(lambda value: json.dumps(value).encode()) | st.sampled_from(NAMES).flatmap(messages)


@pytest.fixture(scope="module")
def target() -> Iterator[Sidecar]:
    with sidecar("--engine", "fake") as process:
        process.initialize()
        yield process


PINGS = count(1)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(ANYTHING, max_size=8))
def test_a_ping_after_anything_is_answered(target: Sidecar, lines: list[bytes]) -> None:
    target.write(b"".join(line + b"\n" for line in lines))
    id_ = target.request("ping", id_=f"ping {next(PINGS)}")
    assert target.result(id_) == {}


def test_frames_of_every_damage_break_no_promise() -> None:
    report = fuzz.run(1, True)
    assert report.broken == []
    assert report.rows


@given(SEEDS)
def test_the_same_seed_gives_the_same_frames(seed: int) -> None:
    first, second = Frames(seed), Frames(seed)
    for _ in range(20):
        assert first.fuzzed() == second.fuzzed()
        assert first.request() == second.request()
        assert first.batch() == second.batch()


@given(SEEDS)
def test_well_formed_requests_have_ids_of_their_own_and_nothing_asks_the_sidecar_to_leave(seed: int) -> None:
    frames = Frames(seed)
    ids = []
    for _ in range(20):
        id_, text = frames.request()
        assert json.loads(text)["id"] == id_
        other, batch = frames.batch()
        assert other in [message.get("id") for message in json.loads(batch) if isinstance(message, dict)]
        ids += [id_, other]
        fuzzed = frames.fuzzed()
        assert fuzzed
        assert not any(word in fuzzed for word in (b"exit", b"shutdown", b"well-formed"))
    assert len(set(ids)) == len(ids)


@given(SEEDS, st.binary(min_size=1), st.sampled_from(FRAMINGS))
def test_every_odd_form_of_a_frame_is_one_that_is_allowed(seed: int, body: bytes, framing: Framing) -> None:
    pick = Random(seed)
    sent = framed(framing, body, pick)
    decoder = FrameDecoder(framing)
    decoder.feed(framed(framing, b"{}"))  # what comes first may be taken for a BOM
    received = decoder.feed(sent)
    if framing == "headers":
        assert received == [body]
    else:
        lines = [line.strip() for line in received if isinstance(line, bytes)]
        assert lines == [line.strip() for line in body.split(b"\n") if line.strip()]
