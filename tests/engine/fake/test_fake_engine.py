"""The fake engine, driven over a real link."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from mlx_sidecar.engine.fake.fake_script import END, Script
from mlx_sidecar.link.control_messages import (
    EngineStats,
    Load,
    Loaded,
    Models,
    Progress,
    QueryModels,
    QueryStats,
    Unload,
    Unloaded,
)
from mlx_sidecar.link.messages import Cancel, Dropped, Sampling, Stop, Tokens
from tests.support.engine_process import EngineClient, ready_engine

SLOW = "fake?tokens=100000&delay_ms=3600000"  # one token an hour: only an event ends it
SLOW_PREFILL = "fake?prefill_ms=3600000"


@pytest.fixture
def engine() -> Iterator[EngineClient]:
    with ready_engine(engine="fake", memory_limit_bytes=10000000) as client:
        yield client


def text(tokens: list[int]) -> str:
    return bytes(tokens).decode()


def test_the_same_prompt_and_seed_give_the_same_tokens_in_another_process(engine: EngineClient) -> None:
    engine.load("fake")
    sampling = Sampling(seed=7)
    first = engine.generate("fake", [1, 2], sampling=sampling)
    with ready_engine(engine="fake") as other:
        other.load("fake")
        assert other.generate("fake", [1, 2], sampling=sampling) == first
        assert other.generate("fake", [1, 2], sampling=Sampling(seed=8)) != first
        assert other.generate("fake", [1, 3], sampling=sampling) != first


def test_a_resumed_sequence_goes_on_where_it_was(engine: EngineClient) -> None:
    engine.load("fake?tokens=40&wide=1")
    whole = engine.generate("fake?tokens=40&wide=1", [5], 40)
    rest = engine.generate("fake?tokens=40&wide=1", [5, *whole[:13]], 40, emitted=13)
    assert whole[13:] == rest


def test_the_answer_says_what_the_script_says(engine: EngineClient) -> None:
    for model, prompt, answer in [
        ("fake?text=Gr%C3%BC%C3%9Fe", [1], "Grüße"),
        ("fake?echo=1", list(b"say this"), "say this"),
    ]:
        engine.load(model)
        assert text(engine.generate(model, prompt, 100, stop_tokens=[END])) == answer


@pytest.mark.parametrize("wide", [False, True])
def test_invented_answers_are_whole_unicode_of_exactly_the_length_asked_for(wide: bool) -> None:
    for tokens in range(60):
        answer = Script(tokens=tokens, wide=wide).answer([1], seed=tokens)
        assert len(text([next(answer) for _ in range(tokens)]).encode()) == tokens
        assert next(answer) == END


def test_an_ignored_end_of_turn_does_not_end_the_answer(engine: EngineClient) -> None:
    engine.load("fake?text=ab")
    assert text(engine.generate("fake?text=ab", [1], 5)) == "ab ab"


def test_several_sequences_run_at_once(engine: EngineClient) -> None:
    engine.load(SLOW)
    engine.load("fake")
    slow = engine.submit(SLOW, [1])
    assert engine.generate("fake", [1], 8)
    engine.send(Cancel(slow))
    assert engine.finished(slow).reason == "cancelled"


@pytest.mark.parametrize("model", [SLOW, SLOW_PREFILL])
def test_cancel_is_heard_while_a_script_waits(engine: EngineClient, model: str) -> None:
    engine.load(model)
    seq = engine.submit(model, [1])
    engine.send(Cancel(seq, "stop"), Cancel(seq))
    assert engine.finished(seq).reason == "stop"


def test_a_load_reports_progress_and_then_its_card(engine: EngineClient) -> None:
    loaded = engine.load("fake?load_steps=3&memory_bytes=300")
    steps = [message for message in engine.seen if isinstance(message, Progress)]
    assert [(step.done_bytes, step.total_bytes) for step in steps] == [(100, 300), (200, 300), (300, 300)]
    assert loaded.card.state == "ready"
    assert loaded.card.memory_bytes == 300


def test_a_scripted_load_failure_is_refused_by_its_kind(engine: EngineClient) -> None:
    engine.send(Load(90, "fake?fail_load=model_not_found", ""), Load(91, "fake?colour=red", ""))
    assert engine.refusal(90).fault.kind == "model_not_found"
    assert engine.refusal(91).fault.kind == "model_unsupported"


def test_a_scripted_failure_ends_one_sequence_and_spares_the_others(engine: EngineClient) -> None:
    engine.load("fake?fail_after=2")
    engine.load("fake")
    failing, fine = engine.submit("fake?fail_after=2", [1]), engine.submit("fake", [1], 8)
    ended = engine.finished(failing)
    assert (ended.reason, ended.fault is not None and ended.fault.kind) == ("error", "internal_error")
    assert len(engine.tokens(failing)) == 2
    assert len(engine.tokens(fine)) == 8


def test_a_crash_comes_after_the_tokens_before_it(engine: EngineClient) -> None:
    engine.load("fake?crash_after=3")
    seq = engine.submit("fake?crash_after=3", [1])
    assert engine.at_end() == 70
    assert len([message for message in engine.seen if getattr(message, "seq", None) == seq]) == 3


def test_a_resumed_sequence_survives_its_crash_unless_it_is_poison(engine: EngineClient) -> None:
    engine.load("fake?crash_after=3")
    engine.load("fake?poison_after=3")
    assert engine.generate("fake?crash_after=3", [1, 65, 65, 65], 8, emitted=3)
    engine.submit("fake?poison_after=3", [1, 65, 65, 65], 8, emitted=3)
    assert engine.at_end() == 70


@pytest.mark.parametrize("option", ["crash_after", "raise_after", "hang_after"])
def test_what_happens_before_the_first_token_happens_to_none_that_comes_again(
    engine: EngineClient, option: str
) -> None:
    model = f"fake?{option}=0"
    engine.load(model)
    assert engine.generate(model, [1], 8, again=True)
    assert engine.generate(model, [1, 65], 8, emitted=1)


@pytest.mark.parametrize(
    ("model", "fields"),
    [
        ("fake?crash_after=0", {}),
        ("fake?poison_after=0", {"again": True}),
        ("fake?poison_prompt=1&delay_ms=1", {"again": True, "emitted": 1}),
        ("fake?poison_token=7&delay_ms=1", {"again": True}),
    ],
)
def test_a_crash_before_the_first_token(engine: EngineClient, model: str, fields: dict[str, Any]) -> None:
    engine.load(model)
    engine.submit(model, [5, 7, 65], **fields)
    assert engine.at_end() == 70
    assert not any(isinstance(message, Tokens) for message in engine.seen)


def test_a_poisonous_token_is_harmless_where_it_is_not(engine: EngineClient) -> None:
    engine.load("fake?poison_token=7")
    assert engine.generate("fake?poison_token=7", [5, 8], 8)


def test_a_scripted_failure_of_a_step_drops_its_sequence_each_time_only_if_it_is_poison(engine: EngineClient) -> None:
    for model, times in (("fake?raise_after=3", 1), ("fake?poison_raise=3", 2)):
        engine.load(model)
        seq = engine.submit(model, [1])
        first = engine.wait(Dropped, lambda message, seq=seq: seq in message.seqs)  # type: ignore[misc]
        assert (first.seqs, first.running, first.fault.kind) == ([seq], [seq], "internal_error")
        again = engine.submit(model, [1, 65, 65, 65], 8, emitted=3, again=True)
        if times == 1:
            assert engine.finished(again).reason == "length"
        else:
            engine.wait(Dropped, lambda message, again=again: again in message.seqs)  # type: ignore[misc]


def test_a_scripted_want_of_memory_is_survived(engine: EngineClient) -> None:
    model = "fake?tokens=40&memory_rows=3&token_bytes=10"
    engine.load(model)
    seqs = [engine.submit(model, [1], 40) for _ in range(8)]
    assert {engine.finished(seq).reason for seq in seqs} == {"length"}
    engine.send(QueryStats(90))
    stats = engine.reply(90)
    assert isinstance(stats, EngineStats)
    assert stats.counters["allocation_failures"] >= 1


def test_a_hanging_engine_still_leaves_when_its_link_closes(engine: EngineClient) -> None:
    engine.load("fake?hang_after=1")
    engine.wait_tokens(engine.submit("fake?hang_after=1", [1]))
    engine.link.close()
    assert engine.process.wait(60) == 0


def test_stop_ends_the_engine(engine: EngineClient) -> None:
    engine.send(Stop())
    assert engine.at_end() == 0


def test_an_interrupt_of_the_process_group_does_not_end_the_engine(engine: EngineClient) -> None:
    os.kill(engine.process.pid, signal.SIGINT)
    assert engine.load("fake").card.state == "ready"


def test_models_and_stats_tell_what_is_there(engine: EngineClient) -> None:
    engine.load("fake", pin=True)
    engine.load(SLOW)
    running = engine.submit(SLOW, [1])
    engine.generate("fake", [1, 2, 3], 8)
    engine.send(QueryModels(90), QueryStats(91))
    models = engine.reply(90)
    assert isinstance(models, Models)
    assert {card.model: (card.pinned, card.streams) for card in models.models} == {"fake": (True, 0), SLOW: (False, 1)}
    stats = engine.reply(91)
    assert isinstance(stats, EngineStats)
    assert stats.counters["requests"] == 2
    assert stats.counters["prompt_tokens"] == 4
    assert stats.counters["completion_tokens"] == 8
    assert stats.gauges["running"] == 1
    assert stats.last_device_operation_s is not None
    engine.send(Cancel(running))


def test_a_load_that_is_already_running_answers_all_who_asked(engine: EngineClient) -> None:
    slow_load = "fake?load_ms=3600000&load_steps=1"
    engine.send(Load(90, slow_load, ""), Load(91, slow_load, ""), QueryModels(92))
    models = engine.reply(92)
    assert isinstance(models, Models)
    assert [card.state for card in models.models] == ["loading"]
    engine.send(Unload(93, slow_load))
    assert engine.refusal(90).fault.kind == "model_load_failed"
    assert engine.refusal(91).fault.kind == "model_load_failed"
    assert isinstance(engine.reply(93), Unloaded)


def test_decoding_goes_on_while_another_model_loads(engine: EngineClient) -> None:
    engine.load("fake")
    engine.send(Load(90, "fake?load_ms=3600000&load_steps=1", ""))
    assert len(engine.generate("fake", [1], 8)) == 8
    assert not any(isinstance(message, Loaded) and message.op == 90 for message in engine.seen)
