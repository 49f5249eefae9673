"""Adapters of requests on a real engine under exact numerics: many in one batch, and each as if it were alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import mlx.core as mx
import pytest

from mlx_sidecar.engine.execution import mlxlm
from mlx_sidecar.link.adapter_messages import AdapterUnloaded, UnloadAdapter
from mlx_sidecar.link.messages import Cancel, Prefill, Refused, Sampling, Speculation, Submit, Tokens
from tests.support.adapters import prompt, shapes_of, write_adapter
from tests.support.engine_process import EngineClient, ready_engine

KIND = "qwen3"
RANKS = (1, 2, 3, 4, 6, 8, 12, 16)
NAMES = [f"rank {rank}" for rank in RANKS]
ROWS = 32
TOKENS = 12


@pytest.fixture(scope="module")
def adapters(random_models: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The directories of the adapters by name, in both formats."""
    root, shapes = tmp_path_factory.mktemp("adapters"), shapes_of(random_models / KIND)
    return {
        name: str(write_adapter(root / name, shapes, rank=rank, seed=rank, size=0.15, peft=rank % 2 == 0))
        for name, rank in zip(NAMES, RANKS, strict=True)
    }


@pytest.fixture(scope="module", params=["auto", "off"], ids=["native", "flat"])
def engine(request: pytest.FixtureRequest, random_models: Path, adapters: dict[str, str]) -> Iterator[EngineClient]:
    with ready_engine(engine="mlx", numerics="exact", native=request.param) as client:
        card = client.load(KIND, str(random_models / KIND)).card
        assert card.forward == {"auto": "native", "off": "flat"}[request.param]
        for name, path in adapters.items():
            client.load_adapter(KIND, name, path)
        yield client


def greedy(model: Any, tokens: list[int]) -> list[int]:
    caches = mlxlm.make_prompt_cache(model)
    found: list[int] = []
    logits = model(mx.array([tokens]), cache=caches)
    for _ in range(TOKENS):
        found.append(int(cast("int", mx.argmax(logits[0, -1]).item())))
        logits = model(mx.array([found[-1:]]), cache=caches)
    return found


def row(number: int) -> tuple[str | None, list[int]]:
    """The adapter and the prompt of a row of the full batch; every ninth has no adapter."""
    return (None if number % 9 == 8 else NAMES[number % 9]), prompt(number, 5 + number % 40)


def bits(engine: EngineClient, seq: int) -> list[tuple[list[int], object]]:
    """Return the tokens of a sequence with their log-probabilities."""
    engine.finished(seq)
    told = [message for message in engine.seen if isinstance(message, Tokens) and message.seq == seq]
    return [(message.tokens, message.logprobs) for message in told]


def test_eight_adapters_over_32_rows_give_each_the_bits_that_it_has_alone(engine: EngineClient) -> None:
    def submitted(number: int) -> int:
        adapter, tokens = row(number)
        return engine.submit(KIND, tokens, TOKENS, adapter=adapter, sampling=Sampling(logprobs=1))

    together = [submitted(number) for number in range(ROWS)]
    assert all(len(bits(engine, seq)) == TOKENS for seq in together)
    for number, seq in list(enumerate(together))[::3]:
        assert bits(engine, seq) == bits(engine, submitted(number))


def test_they_are_the_tokens_of_mlx_lm_with_that_adapter(
    engine: EngineClient, random_models: Path, adapters: dict[str, str], tmp_path: Path
) -> None:
    for at, name in enumerate(NAMES):
        # mlx-lm reads one format only.
        own = write_adapter(tmp_path / name, shapes_of(random_models / KIND), rank=RANKS[at], seed=RANKS[at], size=0.15)
        model = mlxlm.load_adapters(mlxlm.load_model(random_models / KIND)[0], str(own))
        tokens = prompt(100 + at, 12)
        assert engine.generate(KIND, tokens, TOKENS, adapter=name) == greedy(model, tokens)


def test_a_prompt_is_cached_for_the_adapter_that_computed_it_and_for_no_other(engine: EngineClient) -> None:
    tokens = prompt(7, 200)

    def cached(adapter: str | None) -> int:
        return engine.finished(engine.submit(KIND, tokens, 2, adapter=adapter)).cached_tokens

    answers = {
        adapter: engine.generate(KIND, tokens, TOKENS, adapter=adapter) for adapter in (NAMES[0], NAMES[1], None)
    }
    assert [cached(adapter) for adapter in (NAMES[0], NAMES[1], None, NAMES[2])] == [199, 199, 199, 0]
    for adapter, answer in answers.items():
        assert engine.generate(KIND, tokens, TOKENS, adapter=adapter) == answer


def test_proposals_change_nothing(engine: EngineClient) -> None:
    tokens = prompt(9, 8) * 6
    plain = engine.generate(KIND, tokens, TOKENS, adapter=NAMES[3])
    with_them = engine.generate(KIND, tokens, TOKENS, adapter=NAMES[3], speculation=Speculation(max_tokens=4))
    assert plain == with_them


def test_an_adapter_is_unloaded_behind_the_rows_that_use_it(engine: EngineClient, adapters: dict[str, str]) -> None:
    engine.load_adapter(KIND, "leaves", adapters[NAMES[0]])
    long = [engine.submit(KIND, prompt(at, 9), 3000, adapter="leaves") for at in range(2)]
    for seq in long:
        engine.wait_tokens(seq)
    op = engine.number()
    engine.send(UnloadAdapter(op, KIND, "leaves"))
    late = engine.submit(KIND, prompt(1, 9), 2, adapter="leaves")
    fault = engine.finished(late).fault
    assert fault is not None
    assert (fault.kind, fault.details["adapter"]) == ("unknown_adapter", "leaves")
    assert engine.finished(engine.submit(KIND, prompt(1, 9), 2)).reason == "length"
    engine.send(*(Cancel(seq) for seq in long))
    unloaded = engine.reply(op)
    assert isinstance(unloaded, AdapterUnloaded)
    assert unloaded.freed_bytes > 0
    ends = [
        at
        for at, message in enumerate(engine.seen)
        if getattr(message, "seq", 0) in long and hasattr(message, "reason")
    ]
    assert max(ends) < engine.seen.index(unloaded)


def test_a_request_that_names_an_adapter_which_is_being_read_waits_for_it(
    engine: EngineClient, adapters: dict[str, str]
) -> None:
    card = engine.load_adapter(KIND, NAMES[4], adapters[NAMES[4]]).card
    tokens = prompt(3, 20)
    expected = engine.generate(KIND, tokens, TOKENS, adapter=NAMES[4])
    op = engine.number()
    engine.send(UnloadAdapter(op, KIND, NAMES[4]))
    engine.reply(op)
    known = engine.load_adapter(KIND, NAMES[4], adapters[NAMES[4]], known=card)
    assert (known.card.resident, known.load_s) == (False, 0.0)
    assert engine.generate(KIND, tokens, TOKENS, adapter=NAMES[4]) == expected


def test_files_that_changed_under_a_name_are_refused(engine: EngineClient, random_models: Path, tmp_path: Path) -> None:
    shapes = shapes_of(random_models / KIND)
    path = write_adapter(tmp_path, shapes, seed=1)
    card = engine.load_adapter(KIND, "changing", str(path)).card
    op = engine.number()
    engine.send(UnloadAdapter(op, KIND, "changing"))
    engine.reply(op)
    engine.load_adapter(KIND, "changing", str(path), known=card)
    write_adapter(tmp_path, shapes, seed=2)
    fault = engine.finished(engine.submit(KIND, [1, 2, 3], 2, adapter="changing")).fault
    assert fault is not None
    assert (fault.kind, fault.details["adapter"]) == ("adapter_load_failed", "changing")


def test_a_prompt_is_computed_without_adapter_where_none_is_named(engine: EngineClient) -> None:
    seq = engine.number()
    tokens = prompt(55, 80)
    engine.send(Submit(seq, KIND, tokens, Prefill(pin=False)))
    assert engine.finished(seq).reason == "length"
    assert engine.finished(engine.submit(KIND, tokens, 2)).cached_tokens == 79
    assert engine.finished(engine.submit(KIND, tokens, 2, adapter=NAMES[0])).cached_tokens == 0


def test_a_forced_unload_of_the_model_takes_its_adapters_along(
    engine: EngineClient, random_models: Path, adapters: dict[str, str]
) -> None:
    from mlx_sidecar.link.control_messages import Unload
    from mlx_sidecar.link.messages import Finished

    engine.load("other", str(random_models / KIND))
    engine.load_adapter("other", "x", adapters[NAMES[0]])
    seq = engine.submit("other", [1, 2, 3], 3000, adapter="x")
    engine.wait_tokens(seq)
    op = engine.number()
    engine.send(Unload(op, "other", force=True))
    engine.reply(op)
    assert isinstance(engine.finished(seq), Finished)
    engine.load("other", str(random_models / KIND))
    fault = engine.finished(engine.submit("other", [1], 2, adapter="x")).fault
    assert fault is not None
    assert fault.kind == "unknown_adapter"
    op = engine.number()
    engine.send(UnloadAdapter(op, "other", "x"))
    assert isinstance(engine.reply(op), Refused)
