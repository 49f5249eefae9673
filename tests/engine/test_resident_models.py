"""Loading, evicting and unloading, over a real link; the fake engine keeps the books of models that weigh nothing."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Any

import msgspec
import pytest

from mlx_sidecar.engine.core.memory_ledger import MemoryLedger
from mlx_sidecar.engine.fake.fake_engine import FakeBackend, FakeBatch
from mlx_sidecar.engine.fake.fake_script import Script
from mlx_sidecar.engine.resident_models import LoadedModel, LoadStep, ResidentModels
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
from mlx_sidecar.link.messages import Cancel, Evicted, Finished, Generate, Sampling, Submit, ToFront
from mlx_sidecar.observe.metrics import Metrics
from tests.support.engine_process import EngineClient, ready_engine

BIG = "{}?memory_bytes=400"  # two fit into the thousand bytes of the engine here
FOREVER = "&tokens=100000&delay_ms=3600000"


@pytest.fixture
def engine() -> Iterator[EngineClient]:
    with ready_engine(engine="fake", memory_limit_bytes=1000) as client:
        yield client


def resident(engine: EngineClient) -> list[str]:
    op = engine.number()
    engine.send(QueryModels(op))
    answer = engine.reply(op)
    assert isinstance(answer, Models)
    return [card.model.partition("?")[0] for card in answer.models]


def stats(engine: EngineClient) -> EngineStats:
    op = engine.number()
    engine.send(QueryStats(op))
    answer = engine.reply(op)
    assert isinstance(answer, EngineStats)
    return answer


def load(engine: EngineClient, name: str, more: str = "", **fields: Any) -> str:
    model = BIG.format(name) + more
    engine.load(model, **fields)
    return model


def test_loading_what_is_loaded_answers_its_card_and_costs_nothing(engine: EngineClient) -> None:
    model = load(engine, "a")
    again = engine.load(model, pin=True)
    assert again.load_s == 0
    assert again.card.pinned


@pytest.mark.parametrize("change", [{"path": "/elsewhere"}, {"dtype": "float16"}])
def test_a_model_is_never_swapped_in_silence(engine: EngineClient, change: dict[str, str]) -> None:
    model = load(engine, "a")
    engine.send(Load(90, model, **{"path": "", **change}))  # type: ignore[arg-type]
    fault = engine.refusal(90).fault
    assert (fault.kind, fault.details) == ("invalid_params", {"field": next(iter(change))})


def test_the_least_recently_used_model_makes_room(engine: EngineClient) -> None:
    first, _ = load(engine, "a"), load(engine, "b")
    engine.generate(first, [1], 1)
    load(engine, "c")
    assert resident(engine) == ["a", "c"]


def test_the_books_show_the_bytes_of_each_kind_of_owner(engine: EngineClient) -> None:
    model = load(engine, "a", "&token_bytes=1" + FOREVER)
    gauges = stats(engine).gauges
    assert [gauges[name] for name in ("models_bytes", "reserved_bytes", "kept_bytes", "free_bytes")] == [400, 0, 0, 600]
    engine.submit(model, [1] * 10, 100)
    stats(engine)
    gauges = stats(engine).gauges
    assert (gauges["models_bytes"], gauges["reserved_bytes"], gauges["free_bytes"]) == (400, 110, 490)


def test_the_front_is_told_of_each_model_that_goes_unasked_and_of_no_other(engine: EngineClient) -> None:
    first, second = load(engine, "a"), load(engine, "b", ttl_s=0.001)
    while "b" in resident(engine):
        pass
    load(engine, "c")
    load(engine, "d")
    engine.send(Unload(90, BIG.format("c")))
    engine.reply(90)
    evicted = [message.model for message in engine.seen if isinstance(message, Evicted)]
    assert evicted == [second, first]
    order = [message for message in engine.seen if isinstance(message, Evicted | Loaded)]
    assert isinstance(order[-1], Loaded), "before the model that took its room is there"


def test_a_model_that_is_pinned_or_in_use_is_never_evicted(engine: EngineClient) -> None:
    load(engine, "a", pin=True)
    busy = load(engine, "b", FOREVER)
    running = engine.submit(busy, [1])
    engine.send(Load(90, BIG.format("c"), ""))
    fault = engine.refusal(90).fault
    assert (fault.kind, fault.details) == ("out_of_memory", {"need_bytes": 400, "have_bytes": 200})
    assert resident(engine) == ["a", "b"]
    engine.send(Cancel(running))
    assert engine.finished(running).reason == "cancelled"
    load(engine, "c")
    assert resident(engine) == ["a", "c"]


def test_a_model_too_big_for_the_budget_evicts_nobody(engine: EngineClient) -> None:
    load(engine, "a")
    engine.send(Load(90, "huge?memory_bytes=1001", ""))
    assert engine.refusal(90).fault.kind == "out_of_memory"
    assert resident(engine) == ["a"]


def test_an_idle_model_outlives_its_time_to_live_by_nothing(engine: EngineClient) -> None:
    load(engine, "a", ttl_s=0.001)
    load(engine, "b", ttl_s=3600.0)
    load(engine, "c", ttl_s=0.001, pin=True)
    while (names := resident(engine)) != ["b", "c"]:
        assert "b" in names


def test_a_model_in_use_is_unloaded_only_by_force(engine: EngineClient) -> None:
    model = load(engine, "a", FOREVER)
    seq = engine.submit(model, [1])
    engine.send(Unload(90, model))
    assert engine.refusal(90).fault.kind == "model_in_use"
    assert engine.refusal(90).fault.details["streams"] == 1
    engine.send(Unload(91, model, force=True))
    assert engine.reply(91) == Unloaded(91, 400)
    finished = engine.finished(seq)
    assert (finished.reason, finished.fault is not None and finished.fault.kind) == ("error", "model_not_loaded")
    assert engine.seen.index(finished) < engine.seen.index(Unloaded(91, 400))
    assert resident(engine) == []


def test_unloading_what_is_not_loaded_is_refused(engine: EngineClient) -> None:
    engine.send(Unload(90, "nobody"))
    assert engine.refusal(90).fault.kind == "model_not_loaded"


def test_sequences_wait_for_memory_in_order_and_impossible_ones_are_refused(engine: EngineClient) -> None:
    model = load(engine, "a", "&token_bytes=10&tokens=100000&delay_ms=3600000")  # 600 bytes are left: 60 tokens
    running = engine.submit(model, [1] * 30, 10)
    waiting = engine.submit(model, [1] * 20, 10)
    behind = engine.submit(model, [1], 1)
    while (gauges := stats(engine).gauges)["running"] == 0:
        assert gauges["waiting"] <= 3
    assert (gauges["running"], gauges["waiting"], gauges["reserved_bytes"]) == (1, 2, 400)
    engine.send(Cancel(behind), Cancel(waiting), Cancel(running))
    assert not engine.finished(waiting).started
    impossible = engine.finished(engine.submit(model, [1] * 60, 1))
    assert (impossible.started, impossible.fault is not None and impossible.fault.kind) == (False, "out_of_memory")


def test_a_long_limit_is_not_reserved_and_who_outgrows_the_memory_ends_with_an_error(engine: EngineClient) -> None:
    model = load(engine, "a", "&token_bytes=1&tokens=100000")  # 600 bytes are left: 600 tokens
    first, second = engine.number(), engine.number()
    goal = Generate(Sampling(), [], 8000)
    engine.send(*(Submit(seq, model, [1], goal) for seq in (first, second)))  # they step together
    for seq in (first, second):  # the second waits for the end of the first
        finished = engine.finished(seq)
        assert (finished.reason, finished.started) == ("error", True)
        assert finished.fault is not None
        assert finished.fault.kind == "out_of_memory"
        assert finished.fault.details == {"need_bytes": 768, "have_bytes": 600}
        assert len(engine.tokens(seq)) == 511
    assert engine.finished(engine.submit(model, [1], 400)).reason == "length"


def test_a_sequence_evicts_idle_models_to_make_room(engine: EngineClient) -> None:
    load(engine, "a")
    model = load(engine, "b", "&token_bytes=10")
    assert engine.finished(engine.submit(model, [1] * 30, 10)).reason == "length"
    assert resident(engine) == ["b"]


def test_a_full_queue_is_overloaded(engine: EngineClient) -> None:
    model = load(engine, "a", FOREVER)
    seqs = [engine.submit(model, [1]) for _ in range(32 + 1024 + 1)]
    fault = engine.finished(seqs[-1]).fault
    assert fault is not None
    assert fault.kind == "overloaded"
    assert (fault.details["queue"], fault.details["limit"]) == (1024, 1024)
    engine.send(Unload(90, model, force=True))
    for seq in seqs:
        assert isinstance(engine.finished(seq), Finished)


def test_the_memory_of_a_model_that_loads_is_not_given_to_sequences() -> None:
    with ready_engine(engine="fake", memory_limit_bytes=8000) as engine:
        ours = "fake?memory_bytes=1000&token_bytes=10" + FOREVER
        engine.load(ours)
        op = engine.number()
        engine.send(Load(op, "fake?memory_bytes=5000&load_ms=3600000", ""))
        engine.wait(Progress, lambda message: message.op == op)
        large = engine.submit(ours, [1] * 450)
        stats(engine)
        assert stats(engine).gauges["waiting"] == 1
        unload = engine.number()
        engine.send(Unload(unload, "fake?memory_bytes=5000&load_ms=3600000"))
        engine.reply(unload)
        stats(engine)
        assert stats(engine).gauges["running"] == 1
        engine.send(Cancel(large))


def test_what_is_kept_for_later_requests_goes_before_a_load_is_refused() -> None:
    backend = KeepingBackend()
    streams = {"a": 1}.get
    registry = ResidentModels(backend, MemoryLedger(1000), Metrics(("loads",), ()), lambda model: streams(model, 0))
    for name in ("a", "b"):
        told: list[ToFront] = []
        registry.request(Load(1, name, ""), 0.0)
        while (loading := registry.loading) is not None:
            told = registry.advance(loading, 0.0)
        assert isinstance(told[-1], Loaded), told
        backend.kept.reclaimable_bytes = 400
    assert sorted(name for name, _ in registry.batches()) == ["a", "b"]


class KeepingBatch(FakeBatch):
    """A batch that holds on to unused caches."""

    def release(self) -> None:
        self.reclaimable_bytes = 0


class KeepingBackend(FakeBackend):
    """Models of 400 bytes, with batches that keep."""

    def __init__(self) -> None:
        super().__init__()
        self.kept = KeepingBatch(Script())

    def estimate(self, load: Load) -> int:
        return 400

    def load(self, load: Load) -> Generator[LoadStep, None, LoadedModel]:
        loaded = yield from super().load(load)
        card = msgspec.structs.replace(loaded.card, memory_bytes=400)
        return loaded._replace(card=card, batch=self.kept if load.model == "a" else loaded.batch)
