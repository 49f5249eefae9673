"""The batch by itself, step by step: where in a step something happens must not depend on a link's timing."""

from __future__ import annotations

from itertools import count
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest

from mlx_sidecar.engine import mlx_batch, mlxlm
from mlx_sidecar.engine.batch import Event
from mlx_sidecar.engine.mlx_batch import CHUNK_TOKENS, MlxBatch
from mlx_sidecar.engine.sequence import Sequence
from mlx_sidecar.link.messages import Sampling
from mlx_sidecar.models.budget import SequenceCost

numbers = count(1)

LIMIT_BYTES = 1 << 34


@pytest.fixture(scope="module")
def model(random_models: Path) -> Any:
    return mlxlm.load_model(random_models / "qwen3")[0]


def started(tokens: list[int], limit: int = 8, sampling: Sampling | None = None) -> Sequence:
    return Sequence(
        next(numbers), "m", tokens, 0, sampling or Sampling(), [], limit, SequenceCost(), 0.0, started_s=0.0
    )


def step(batch: MlxBatch) -> list[Event]:
    """One step, and what the loop does with its events."""
    events = batch.step(0.0)
    for event in events:
        if event.tokens:
            event.sequence.first_token_s = 0.0
    return events


def drain(batch: MlxBatch) -> dict[int, list[int]]:
    """All tokens of all sequences, by number."""
    tokens: dict[int, list[int]] = {}
    while batch.due_s(0.0) == 0.0:
        for event in step(batch):
            tokens.setdefault(event.sequence.id, []).extend(event.tokens)
    return tokens


def test_a_prompt_is_prefilled_in_chunks_and_others_decode_between_them(model: Any) -> None:
    batch = MlxBatch(model, LIMIT_BYTES)
    short = started([1], limit=100)
    batch.submit(short)
    while not step(batch):
        pass
    long = started([2] * (6 * CHUNK_TOKENS))
    batch.submit(long)
    events = step(batch)
    between = 0
    while [event.sequence for event in events] == [short]:
        between += 1
        events = step(batch)
    assert [event.sequence for event in events] == [short, long]
    assert between >= 6


def test_cancel_in_prefill_ends_it_and_spares_the_others(model: Any) -> None:
    batch = MlxBatch(model, LIMIT_BYTES)
    other, long = started([1, 2, 3]), started([2] * (4 * CHUNK_TOKENS))
    batch.submit(other)
    alone = drain(batch)[other.id]
    again = started([1, 2, 3])
    batch.submit(long)
    step(batch)
    assert long.prefilling
    batch.submit(again)
    batch.cancel(long)
    assert drain(batch) == {again.id: alone}


def test_cancel_of_the_last_sequence_leaves_a_batch_that_works(model: Any) -> None:
    batch = MlxBatch(model, LIMIT_BYTES)
    for steps in range(5):
        gone = started([1, 2, 3])
        batch.submit(gone)
        for _ in range(steps):
            step(batch)
        batch.cancel(gone)
        assert batch.due_s(0.0) == float("inf")
        assert batch.step(0.0) == []
    kept = started([1, 2, 3])
    batch.submit(kept)
    assert len(drain(batch)[kept.id]) == 8


def test_the_tokens_of_a_sequence_are_never_changed(model: Any) -> None:
    batch = MlxBatch(model, LIMIT_BYTES)
    sequence = started([1, 2, 3])
    batch.submit(sequence)
    drain(batch)
    assert sequence.tokens == [1, 2, 3]


def test_a_failing_sampler_ends_its_batch_with_typed_errors_and_the_next_one_works(
    model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = MlxBatch(model, LIMIT_BYTES)
    fine = started([1, 2, 3])
    batch.submit(fine)
    expected = drain(batch)[fine.id]

    def fail(logprobs: mx.array) -> mx.array:
        raise RuntimeError("a bug")

    with monkeypatch.context() as patch:
        patch.setattr(mlx_batch, "sampler_for", lambda sequence: fail)
        bad, neighbour = started([4]), started([5])
        batch.submit(bad)
        patch.undo()
        batch.submit(neighbour)
    ended = [event for _ in range(3) for event in step(batch)]
    assert {event.sequence.id for event in ended} == {bad.id, neighbour.id}
    assert all(event.reason == "error" and event.fault and event.fault.kind == "internal_error" for event in ended)
    again = started([1, 2, 3])
    batch.submit(again)
    assert drain(batch)[again.id] == expected


@pytest.mark.parametrize(
    "message",
    [
        "[malloc] Unable to allocate 987654321 bytes.",
        "[metal::malloc] Attempting to allocate 987654321 bytes which is greater than the maximum of 5 bytes.",
    ],
)
def test_running_out_of_memory_is_told_with_numbers(model: Any, monkeypatch: pytest.MonkeyPatch, message: str) -> None:
    batch = MlxBatch(model, LIMIT_BYTES)

    def fail(logprobs: mx.array) -> mx.array:
        raise RuntimeError(message)

    monkeypatch.setattr(mlx_batch, "sampler_for", lambda sequence: fail)
    batch.submit(started([4]))
    [event] = [event for _ in range(3) for event in step(batch)]
    assert event.fault is not None
    assert event.fault.kind == "out_of_memory"
    assert event.fault.details["need_bytes"] == 987654321
    assert 0 < int(event.fault.details["have_bytes"]) < LIMIT_BYTES
