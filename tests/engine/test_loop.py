"""Priorities, deadlines, windows, memory and fairness through a real engine process, the fake device behind it."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from mlx_sidecar.engine.scheduling.scheduler import Limits
from mlx_sidecar.link.control_messages import EngineStats, QueryStats
from mlx_sidecar.link.messages import Cancel, Finished, Generate, Pause, Resume, Sampling, Submit, ToEngine, Tokens
from tests.engine.inline import Inline
from tests.support.engine_process import EngineClient, ready_engine

SLOW = "fake?tokens=100000&delay_ms=3600000"  # one token an hour: only an event ends it
STEADY = "fake?tokens=100000&delay_ms=1"
BIG = "fake?tokens=2000&memory_bytes=1000&token_bytes=10&delay_ms=1"


@pytest.fixture
def engine() -> Iterator[EngineClient]:
    with ready_engine(engine="fake", memory_limit_bytes=10000000) as client:
        yield client


def settled(engine: EngineClient) -> dict[str, float]:
    """Gauges once what was sent has been acted on: a loop that answers has taken what came before, and then decides."""
    stats(engine)
    return stats(engine).gauges


def stats(engine: EngineClient) -> EngineStats:
    op = engine.number()
    engine.send(QueryStats(op))
    answer = engine.reply(op)
    assert isinstance(answer, EngineStats)
    return answer


def received(engine: EngineClient, seq: int) -> int:
    return sum(len(m.tokens) for m in engine.seen if isinstance(m, Tokens) and m.seq == seq)


def test_an_urgent_request_takes_the_place_of_one_that_can_wait(engine: EngineClient) -> None:
    engine.load(SLOW)
    low = [engine.submit(SLOW, [1], 10, priority="low") for _ in range(Limits().running)]
    settled(engine)
    urgent = engine.submit(SLOW, [1], 10, priority="critical")
    gauges = settled(engine)
    assert (gauges["running"], gauges["parked"], gauges["waiting"]) == (Limits().running, 1, 0)
    engine.send(Cancel(urgent))
    assert engine.finished(urgent).reason == "cancelled"
    gauges = settled(engine)
    assert (gauges["running"], gauges["parked"]) == (len(low), 0)


def test_one_of_the_same_priority_waits_its_turn(engine: EngineClient) -> None:
    engine.load(SLOW)
    for _ in range(Limits().running + 1):
        engine.submit(SLOW, [1], 10)
    gauges = settled(engine)
    assert (gauges["running"], gauges["parked"], gauges["waiting"]) == (Limits().running, 0, 1)


def test_what_was_preempted_gives_the_same_tokens_in_the_end(engine: EngineClient) -> None:
    model = "fake?tokens=60&wide=1&delay_ms=2"
    engine.load(model)
    alone = engine.generate(model, [1, 2], 60)
    low = [engine.submit(model, [1, 2], 60, priority="low") for _ in range(Limits().running)]
    engine.wait_tokens(low[-1])
    urgent = [engine.submit(model, [1, 2], 60, priority="high") for _ in range(8)]
    assert all(engine.tokens(seq) == alone for seq in [*low, *urgent])
    assert stats(engine).counters["preemptions"] == 8


def test_a_request_ends_at_its_deadline_with_what_it_has(engine: EngineClient) -> None:
    engine.load(STEADY)
    ends: list[Finished] = []
    tokens: list[int] = []
    for deadline_s in (0.3, 3.0, 30.0):
        seq = engine.submit(STEADY, [1], 100000, deadline_s=deadline_s)
        ends.append(engine.finished(seq))
        if tokens := engine.tokens(seq):
            break  # on a busy machine the first may pass before there is a token
    assert tokens
    assert ends[-1].started
    assert {end.reason for end in ends} == {"deadline"}
    assert stats(engine).counters["deadlines"] == len(ends)


def test_a_request_that_is_late_in_the_queue_is_ended_and_not_started(engine: EngineClient) -> None:
    engine.load(SLOW)
    for _ in range(Limits().running):
        engine.submit(SLOW, [1], 10)
    end = engine.finished(engine.submit(SLOW, [1], 10, deadline_s=0.05))
    assert (end.reason, end.started) == ("deadline", False)


def test_a_deadline_in_prefill_ends_it(engine: EngineClient) -> None:
    model = "fake?prefill_ms=3600000"
    engine.load(model)
    assert engine.finished(engine.submit(model, [1], 10, deadline_s=0.05)).reason == "deadline"


def test_a_paused_sequence_decodes_nothing_until_it_is_resumed(engine: EngineClient) -> None:
    model = "fake?tokens=50&delay_ms=1"
    engine.load(model)
    paused = engine.submit(model, [1], 50)
    engine.send(Pause(paused), Pause(paused))
    clock = engine.submit(model, [2], 50)
    engine.finished(clock)
    stats(engine)  # what was under way when the pause arrived has been told by now
    before = received(engine, paused)
    engine.generate(model, [3], 50)
    assert received(engine, paused) == before < 50
    engine.send(Resume(paused), Resume(paused))
    assert len(engine.tokens(paused)) == 50


def test_a_paused_sequence_leaves_its_place_to_others_and_can_be_cancelled(engine: EngineClient) -> None:
    engine.load(SLOW)
    all_places = [engine.submit(SLOW, [1], 10) for _ in range(Limits().running)]
    settled(engine)
    engine.send(*[Pause(seq) for seq in all_places])
    other = engine.submit(SLOW, [1], 10)
    assert settled(engine)["waiting"] == 0
    engine.send(*[Cancel(seq) for seq in (*all_places, other)])
    assert {engine.finished(seq).reason for seq in (*all_places, other)} == {"cancelled"}


def test_a_request_that_could_never_fit_is_refused_with_numbers() -> None:
    with ready_engine(engine="fake", memory_limit_bytes=6000) as engine:
        engine.load(BIG)
        end = engine.finished(engine.submit(BIG, [1] * 600, 10))
        assert end.fault is not None
        assert end.fault.kind == "out_of_memory"
        assert end.fault.details == {"need_bytes": 6100, "have_bytes": 5000}


def test_when_memory_runs_out_the_younger_one_waits_and_both_finish_with_their_tokens() -> None:
    with ready_engine(engine="fake", memory_limit_bytes=11000) as engine:
        engine.load(BIG)
        alone = engine.generate(BIG, [1], 600)
        first, second = (engine.submit(BIG, [1], 600) for _ in range(2))
        assert engine.tokens(first) == alone
        assert engine.tokens(second) == alone
        assert stats(engine).counters["preemptions"] >= 1


def test_one_that_outgrows_the_machine_ends_with_what_it_has() -> None:
    with ready_engine(engine="fake", memory_limit_bytes=11000) as engine:
        engine.load(BIG)
        seq = engine.submit(BIG, [1], 2000)
        end = engine.finished(seq)
        assert end.fault is not None
        assert (end.reason, end.fault.kind) == ("error", "out_of_memory")
        assert 700 < len(engine.tokens(seq)) < 1100


def test_two_models_that_have_work_take_turns() -> None:
    inline = Inline(10_000_000)  # its steps take what its clock says: turns are even in time, whatever the machine does
    with closing(inline):
        models = ["fake?tokens=200", "fake?tokens=200&wide=1"]
        inline.load(*models)
        for seq, model in enumerate(models):
            inline.submit(seq, model, max_tokens=200)
        inline.settle()
        order = [message.seq for message in inline.seen if isinstance(message, Tokens)]
        ahead = [order[:at].count(0) - order[:at].count(1) for at in range(len(order) + 1)]
        assert (len(order), min(ahead), max(ahead)) == (400, 0, 1)


def test_ten_thousand_random_events_leave_nothing_behind(engine: EngineClient) -> None:
    chance = random.Random(11)
    models = ["fake?tokens=20&delay_ms=1", "fake?tokens=5&prefill_ms=2&token_bytes=3", "fake?tokens=300"]
    for model in models:
        engine.load(model)
    open_: list[int] = []
    submitted = 0
    for _ in range(100):
        burst: list[ToEngine] = []
        for _ in range(100):
            kind = chance.random()
            if kind < 0.5 or not open_:
                seq = engine.number()
                submitted += 1
                open_.append(seq)
                burst.append(
                    Submit(
                        seq,
                        chance.choice(models),
                        [1] * chance.randint(1, 40),
                        Generate(Sampling(seed=seq), [], chance.randint(1, 60)),
                        priority=chance.choice(["critical", "high", "normal", "low"]),
                        deadline_s=chance.choice([None, None, 0.001, 0.05]),
                    )
                )
            else:
                seq = open_[-chance.randint(1, min(50, len(open_)))]
                kind_of = chance.choice([Cancel, Pause, Resume])
                burst.append(kind_of(seq))
        engine.send(*burst)
        stats(engine)
    engine.send(*[Resume(seq) for seq in open_])
    for seq in open_:
        engine.finished(seq)
    ended = [message.seq for message in engine.seen if isinstance(message, Finished)]
    assert sorted(ended) == sorted(open_)
    assert len(ended) == submitted
    gauges = settled(engine)
    assert [gauges[name] for name in ("running", "waiting", "parked", "reserved_bytes", "kept_bytes")] == [0] * 5


def test_a_trace_shows_operations_and_requests(tmp_path: Path) -> None:
    path = tmp_path / "trace.json"
    with ready_engine(engine="fake", trace=str(path)) as engine:
        engine.load("fake?tokens=5&delay_ms=1")
        seq = engine.submit("fake?tokens=5&delay_ms=1", [1], 5)
        engine.finished(seq)
        stats(engine)
        engine.submit(SLOW, [1])  # unknown: refused; the engine is idle again and has written
        stats(engine)
    events = [json.loads(line.rstrip(",\n")) for line in path.read_text().splitlines()[1:]]
    assert {event["name"] for event in events if event["ph"] == "X"} == {"load", "decode"}
    phases = [event["name"] for event in events if event.get("id") == seq and event["ph"] == "b"]
    assert phases == ["queue", "prefill", "decode"]


def test_memory_that_only_the_models_of_others_hold_does_not_block_the_queue() -> None:
    with ready_engine(engine="fake", memory_limit_bytes=8000) as engine:
        ours, other = SLOW + "&memory_bytes=1000&token_bytes=10", SLOW + "&wide=1&memory_bytes=3000"
        for model in (ours, other):
            engine.load(model)
        running = engine.submit(other, [1], 10)
        settled(engine)
        large = engine.submit(ours, [1] * 450, 10, priority="critical")
        waiting = engine.submit(other, [1], 10)
        assert settled(engine)["waiting"] == 2
        engine.send(Cancel(running))  # a sequence still wants the other model, and goes first, or none ever would
        gauges = settled(engine)
        assert (gauges["running"], gauges["waiting"]) == (1, 1)
        engine.send(Cancel(waiting))
        assert settled(engine)["running"] == 1
        engine.send(Cancel(large))
        assert engine.finished(large).fault is None


def test_one_that_fits_no_more_beside_what_was_pinned_since_is_told_so() -> None:
    with ready_engine(engine="fake", memory_limit_bytes=8000) as engine:
        ours = SLOW + "&memory_bytes=1000&token_bytes=10"
        engine.load(ours)
        running = engine.submit(ours, [1] * 250, 10)
        settled(engine)
        large = engine.submit(ours, [1] * 450, 10)
        small = engine.submit(ours, [1], 10)
        engine.load(SLOW + "&memory_bytes=3000", pin=True)
        engine.send(Cancel(running))
        end = engine.finished(large)
        assert end.fault is not None
        assert (end.started, end.fault.details) == (False, {"need_bytes": 4600, "have_bytes": 4000})
        assert settled(engine)["running"] == 1
        engine.send(Cancel(small))


def test_an_idle_model_and_a_parked_sequence_make_room_together() -> None:
    with ready_engine(engine="fake", memory_limit_bytes=8000) as engine:
        ours = SLOW + "&memory_bytes=1000&token_bytes=10"
        engine.load(ours)
        paused = engine.submit(ours, [1] * 250, 10)
        settled(engine)
        engine.send(Pause(paused))
        engine.load(SLOW + "&memory_bytes=3000")
        engine.submit(ours, [1] * 450, 10)
        assert settled(engine)["running"] == 1


def test_a_prompt_is_counted_once_however_often_its_cache_is_dropped() -> None:
    model = SLOW + "&memory_bytes=1000&token_bytes=10"
    with ready_engine(engine="fake", memory_limit_bytes=4000) as engine:
        engine.load(model)
        low = engine.submit(model, [1] * 200, 10, priority="low")
        settled(engine)
        urgent = engine.submit(model, [1] * 200, 10, priority="critical")
        settled(engine)
        engine.send(Cancel(urgent))
        assert settled(engine)["running"] == 1
        assert stats(engine).counters["prompt_tokens"] == 400
        engine.send(Cancel(low))
