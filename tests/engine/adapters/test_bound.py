"""Adapters share an eighth of the engine's memory: the least recently used go, and are read again when needed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mlx_sidecar.link.adapter_messages import AdapterCard, Adapters, LoadAdapter, QueryAdapters
from mlx_sidecar.link.control_messages import EngineStats, QueryStats
from mlx_sidecar.link.messages import Cancel
from tests.support.adapters import prompt, shapes_of, write_adapter
from tests.support.engine_process import EngineClient, ready_engine

KIND = "qwen3"
RANK = 64
NAMES = ["one", "two", "three"]


@pytest.fixture(scope="module")
def paths(random_models: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    root, shapes = tmp_path_factory.mktemp("adapters"), shapes_of(random_models / KIND)
    ranks = dict.fromkeys(NAMES, RANK) | {"huge": 2 * RANK}
    return {
        name: str(write_adapter(root / name, shapes, rank=rank, seed=seed))
        for seed, (name, rank) in enumerate(ranks.items())
    }


@pytest.fixture(scope="module")
def engine(random_models: Path, paths: dict[str, str]) -> Iterator[EngineClient]:
    own_bytes = 4 * RANK * sum(inputs + outputs for inputs, outputs in shapes_of(random_models / KIND).values())
    # An eighth of it is two adapters less a little: one that is twice as large does not fit, nor do two of them.
    limit_bytes = 8 * (2 * own_bytes - 1024)
    with ready_engine(engine="mlx", numerics="exact", memory_limit_bytes=limit_bytes) as client:
        client.load(KIND, str(random_models / KIND))
        for name in NAMES:
            client.load_adapter(KIND, name, paths[name])
        yield client


def cards(engine: EngineClient) -> dict[str, AdapterCard]:
    op = engine.number()
    engine.send(QueryAdapters(op))
    answer = engine.reply(op)
    assert isinstance(answer, Adapters)
    return {card.adapter: card for card in answer.adapters}


def resident(engine: EngineClient) -> list[str]:
    return [name for name, card in cards(engine).items() if card.resident]


def test_the_least_recently_used_goes_and_is_read_again_when_a_request_names_it(engine: EngineClient) -> None:
    answers = {name: engine.generate(KIND, prompt(1, 20), 8, adapter=name) for name in NAMES}
    assert resident(engine) == NAMES[-1:]
    for name, answer in answers.items():
        assert engine.generate(KIND, prompt(1, 20), 8, adapter=name) == answer
        assert resident(engine) == [name]
    assert len(set(map(tuple, answers.values()))) == 3


def test_the_ledger_has_the_bytes_that_are_in_memory(engine: EngineClient) -> None:
    op = engine.number()
    engine.send(QueryStats(op))
    stats = engine.reply(op)
    assert isinstance(stats, EngineStats)
    held = sum(card.memory_bytes for card in cards(engine).values() if card.resident)
    assert stats.gauges["adapters_bytes"] == held > 0


def test_one_that_rows_use_stays_and_a_request_for_another_waits_for_them(engine: EngineClient) -> None:
    long = engine.submit(KIND, prompt(2, 9), 4000, adapter="one")
    engine.wait_tokens(long)
    waits = engine.submit(KIND, prompt(3, 9), 4, adapter="two")
    assert engine.generate(KIND, prompt(4, 9), 4)  # without adapter, and behind it
    assert resident(engine) == ["one"]
    op = engine.number()
    engine.send(LoadAdapter(op, KIND, "three", _path(engine, "three")))
    assert engine.refusal(op).fault.kind == "out_of_memory"
    engine.send(Cancel(long))
    assert engine.finished(waits).reason == "length"
    assert resident(engine) == ["two"]


def test_one_that_could_never_fit_is_refused_with_the_numbers(engine: EngineClient, paths: dict[str, str]) -> None:
    op = engine.number()
    engine.send(LoadAdapter(op, KIND, "huge", paths["huge"]))
    fault = engine.refusal(op).fault
    assert fault.kind == "out_of_memory"
    assert int(fault.details["need_bytes"]) > int(fault.details["have_bytes"])
    assert "huge" not in cards(engine)


def _path(engine: EngineClient, name: str) -> str:
    return cards(engine)[name].path
