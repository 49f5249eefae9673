"""The batch by itself, step by step, with mlx-lm's ``BatchGenerator`` as the yardstick of what tokens are right."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest

from mlx_sidecar.engine.cache.prefixes import Prefixes
from mlx_sidecar.engine.cache.store import Store
from mlx_sidecar.engine.core.batch import StepFailed
from mlx_sidecar.engine.core.sequence import WINDOW, Sequence
from mlx_sidecar.engine.execution import mlxlm
from mlx_sidecar.engine.execution.forward import LateOutput, StepInput
from mlx_sidecar.engine.execution.mlx_batch import MlxBatch
from mlx_sidecar.engine.execution.native.proof import Proven, prove
from mlx_sidecar.engine.execution.probe import Probed, probe
from mlx_sidecar.engine.execution.sampler import Sampled, Sampler
from mlx_sidecar.engine.execution.trial import drained
from mlx_sidecar.link.messages import Sampling
from tests.engine.driver import CHUNK, Driver
from tests.engine.forwards import NATIVELY
from tests.support.sequences import sequence_of

KINDS = ["qwen3", "llama", "sliding", "mamba", "lfm2", "qwen3_5", "llama4", "native qwen3", "native sliding"]
LIMIT_BYTES = 1 << 34

numbers = count(1)
MakeBatch = Callable[[], MlxBatch]


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    kind: str = request.param
    return kind


def forward_of(random_models: Path, kind: str) -> Probed | Proven:
    model = mlxlm.load_model(random_models / kind.removeprefix(NATIVELY))[0]
    return drained(prove(kind, model, "exact", 1)) if kind.startswith(NATIVELY) else probe(kind, model)


def make(random_models: Path, kind: str) -> MakeBatch:
    def new() -> MlxBatch:
        _, vocabulary, forward = forward_of(random_models, kind)
        prefixes = None if forward.uncacheable else Prefixes(Store(LIMIT_BYTES), kind, forward.spec)
        return MlxBatch(forward, vocabulary, LIMIT_BYTES, prefixes)

    return new


@pytest.fixture(scope="module")
def batch_of_kind(random_models: Path, kind: str) -> MakeBatch:
    return make(random_models, kind)


@pytest.fixture(scope="module")
def new_batch(random_models: Path) -> MakeBatch:
    return make(random_models, "qwen3")


def sequence(tokens: list[int], limit: int = 8, sampling: Sampling | None = None, **more: Any) -> Sequence:
    return sequence_of(next(numbers), tokens, limit, sampling, **more)


def run(batch: MlxBatch, *sequences: Sequence) -> list[list[int]]:
    driver = Driver(batch)
    driver.add(*sequences)
    driver.drain()
    return [s.generated for s in sequences]


def prompt(length: int, salt: int = 0) -> list[int]:
    return [(7 * at * at + 13 * at + 31 * salt + 5) % 300 for at in range(length)]


def by_batch_generator(model: Any, prompts: list[list[int]], limit: int) -> list[list[int]]:
    from mlx_lm.generate import BatchGenerator

    # One at a time: its padded prefill is not right for every model.
    generated = []
    for tokens in prompts:
        generator = BatchGenerator(model, max_tokens=limit)
        generator.insert([list(tokens)])
        out: list[int] = []
        while responses := generator.next_generated():
            out += [response.token for response in responses]
        generated.append(out)
    return generated


def by_generate_step(model: Any, prompts: list[list[int]], limit: int) -> list[list[int]]:
    from mlx_lm.generate import generate_step

    return [[int(token) for token, _ in generate_step(mx.array(p), model, max_tokens=limit)] for p in prompts]


def test_the_tokens_are_those_of_mlx_lm(random_models: Path, kind: str, batch_of_kind: MakeBatch) -> None:
    prompts = [prompt(length, salt) for salt, length in enumerate((1, 2, 5, 33, 64, 130))]
    yardstick = by_generate_step if kind == "llama4" else by_batch_generator  # which cannot batch its caches
    expected = yardstick(mlxlm.load_model(random_models / kind.removeprefix(NATIVELY))[0], prompts, 12)
    assert run(batch_of_kind(), *[sequence(tokens, 12) for tokens in prompts]) == expected


def test_joins_leaves_and_cancels_change_nobodys_tokens(batch_of_kind: MakeBatch) -> None:
    wanted = [sequence(prompt(length, length), 20) for length in (3, 40, 90)]
    alone = [run(batch_of_kind(), sequence(s.tokens, 20))[0] for s in wanted]
    driver = Driver(batch_of_kind())
    others = [sequence(prompt(17 * n + 1, n), 50) for n in range(4)]
    for new in (others[0], wanted[0], others[1]):
        driver.add(new)
        driver.step()
    driver.add(*wanted[1:], *others[2:])
    for other in others:
        driver.step()
        driver.end(other, keep=other.id % 2 == 0)
    driver.drain()
    assert [s.generated for s in wanted] == alone


def test_a_sequence_whose_cache_was_dropped_goes_on_with_the_same_tokens(batch_of_kind: MakeBatch) -> None:
    warm = Sampling(temperature=0.9, seed=7, repetition_penalty=1.2, frequency_penalty=0.3, top_p=0.9)
    [alone] = run(batch_of_kind(), sequence(prompt(20), 24, warm))
    driver = Driver(batch_of_kind())
    dropped, other = sequence(prompt(20), 24, warm), sequence(prompt(30, 1), 40)
    driver.add(dropped, other)
    while len(dropped.generated) < 9:
        driver.step()
    driver.end(dropped)
    driver.step()
    driver.add(dropped)
    driver.drain()
    assert dropped.generated == alone


def test_a_sequence_that_pauses_goes_on_with_the_same_tokens(batch_of_kind: MakeBatch) -> None:
    [alone] = run(batch_of_kind(), sequence(prompt(20), 24))
    driver = Driver(batch_of_kind())
    paused, other = sequence(prompt(20), 24), sequence(prompt(30, 1), 60)
    driver.add(other, paused)
    while len(paused.generated) < 5:
        driver.step()
    paused.standing.aside.add(WINDOW)
    for _ in range(6):
        driver.step()
    assert 5 <= len(paused.generated) <= 6
    paused.standing.aside.clear()
    driver.drain()
    assert paused.generated == alone


def test_the_finished_part_of_a_prefill_serves_whoever_asks_next(batch_of_kind: MakeBatch, kind: str) -> None:
    driver = Driver(batch_of_kind())
    [alone] = run(batch_of_kind(), sequence(prompt(200), 8))
    gone, again = sequence(prompt(200), 8), sequence(prompt(200), 8)
    driver.add(gone)
    driver.step()
    driver.step()
    driver.end(gone, keep=True)
    driver.add(again)
    assert again.cached_tokens == again.known == (0 if kind == "llama4" else 2 * CHUNK)
    driver.drain()
    assert again.generated == alone


@pytest.mark.parametrize("length", [1, 2, CHUNK, CHUNK + 1])
def test_a_single_token_can_be_asked_of_a_prompt_of_any_length(batch_of_kind: MakeBatch, length: int) -> None:
    [[first]] = run(batch_of_kind(), sequence(prompt(length), 1))
    [more] = run(batch_of_kind(), sequence(prompt(length), 3))
    assert first == more[0]


def test_a_stop_token_ends_a_sequence_and_is_not_part_of_it(new_batch: MakeBatch) -> None:
    [free] = run(new_batch(), sequence(prompt(9), 12))
    stop = free[6]
    driver = Driver(new_batch())
    stopped = sequence(prompt(9), 12, stop_tokens=[stop])
    driver.add(stopped)
    driver.drain()
    assert stopped.generated == free[: free.index(stop)]
    assert [event.reason for event in driver.events][-1] == "stop"


def test_cancel_of_the_last_sequence_leaves_a_batch_that_works(new_batch: MakeBatch) -> None:
    batch = new_batch()
    for steps in range(5):
        driver = Driver(batch)
        gone = sequence([1, 2, 3])
        driver.add(gone)
        for _ in range(steps):
            driver.step()
        driver.end(gone)
        assert batch.due_s([], 0.0) == float("inf")
        assert batch.step([], 0.0) == []
    assert len(run(batch, sequence([1, 2, 3]))[0]) == 8


def test_the_prompt_of_a_sequence_is_never_changed(new_batch: MakeBatch) -> None:
    asked = sequence([1, 2, 3])
    run(new_batch(), asked)
    assert asked.tokens == [1, 2, 3]


def test_slots_that_nobody_is_in_are_counted_and_can_be_released(new_batch: MakeBatch) -> None:
    driver = Driver(new_batch())
    sequences = [sequence(prompt(20, n), 30) for n in range(4)]
    driver.add(*sequences)
    driver.step()
    assert driver.batch.reclaimable_bytes == 0
    for gone in sequences[:3]:
        driver.end(gone)
    driver.step()
    slot_bytes = 64 * 2 * 2 * 2 * 16 * 4  # tokens, layers, keys and values, heads, head size, float32
    assert driver.batch.reclaimable_bytes == 3 * slot_bytes
    driver.batch.release()
    assert driver.batch.reclaimable_bytes == 0
    driver.drain()
    assert sequences[3].generated == run(new_batch(), sequence(prompt(20, 3), 30))[0]


def test_logprobs_come_with_the_tokens_of_those_who_asked(new_batch: MakeBatch) -> None:
    driver = Driver(new_batch())
    asked, other = sequence(prompt(5), 6, Sampling(logprobs=3)), sequence(prompt(5), 6)
    driver.add(other, asked)
    driver.drain()
    assert asked.generated == other.generated
    told = [event for event in driver.events if event.sequence is asked]
    for event in told:
        assert event.logprobs is not None
        [entry] = event.logprobs
        assert len(entry.top) == 3
        assert entry.top[0] == (event.tokens[0], entry.logprob)
    assert all(event.logprobs is None for event in driver.events if event.sequence is other)


def test_a_failing_step_takes_all_caches_names_who_ran_and_leaves_a_batch_as_good_as_new(
    new_batch: MakeBatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = new_batch()
    [expected] = run(batch, sequence([1, 2, 3]))
    driver = Driver(batch)
    bad, neighbour, paused = sequence([4]), sequence([5]), sequence([6])
    paused.standing.aside.add(WINDOW)
    driver.add(bad, neighbour, paused)
    with monkeypatch.context() as patch:
        patch.setattr(Sampler, "sample", failing("a bug"))
        with pytest.raises(StepFailed) as failed:
            driver.step()
    assert (failed.value.fault.kind, failed.value.for_memory) == ("internal_error", False)
    assert failed.value.running == [bad, neighbour]
    assert [(s.known, s.in_flight) for s in (bad, neighbour, paused)] == [(0, 0)] * 3
    assert not batch.in_flight
    assert batch.due_s([], 0.0) == float("inf")
    assert run(batch, sequence([1, 2, 3])) == [expected]


def test_whoever_is_in_flight_when_a_step_fails_is_among_those_who_ran_and_goes_on_at_the_same_token(
    new_batch: MakeBatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = new_batch()
    [expected] = run(batch, sequence([1, 2, 3]))
    driver = Driver(batch)
    flying = sequence([1, 2, 3])
    driver.add(flying)
    while not batch.in_flight:
        driver.step()
    told = list(flying.generated)
    with monkeypatch.context() as patch:
        patch.setattr(MlxBatch, "_read", broken)
        with pytest.raises(StepFailed) as failed:
            batch.step([], 0.0)
    assert failed.value.running == [flying]
    assert flying.generated == told
    driver.running.clear()
    driver.add(flying)
    driver.drain()
    assert flying.generated == expected


def test_a_failure_holds_on_to_nothing_of_what_it_failed_with(
    new_batch: MakeBatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = Driver(new_batch())
    driver.add(sequence([4]))
    monkeypatch.setattr(Sampler, "sample", failing("a bug"))
    with pytest.raises(StepFailed) as failed:
        driver.step()
    assert failed.value.__context__ is None
    assert failed.value.__cause__ is None


def broken(*_: object, **__: object) -> None:
    raise RuntimeError("a bug")


def test_a_row_that_cannot_be_opened_fails_the_next_step_in_its_name(
    new_batch: MakeBatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = new_batch()
    [expected] = run(batch, sequence([1, 2, 3]))
    driver = Driver(batch)
    neighbour, bad = sequence([5]), sequence([4])
    driver.add(neighbour)
    driver.step()
    with monkeypatch.context() as patch:
        patch.setattr(Sampler, "open", broken)
        driver.add(bad)
    with pytest.raises(StepFailed) as failed:
        driver.step()
    assert failed.value.running == [bad]
    assert (neighbour.known, neighbour.in_flight) == (0, 0)
    assert batch.due_s([], 0.0) == float("inf")
    assert run(batch, sequence([1, 2, 3])) == [expected]


@pytest.mark.parametrize("neighbours", [0, 1])
def test_a_row_that_cannot_be_kept_does_no_harm_to_those_who_come_later(
    new_batch: MakeBatch, monkeypatch: pytest.MonkeyPatch, neighbours: int
) -> None:
    batch = new_batch()
    [expected] = run(batch, sequence([1, 2, 3]))
    driver = Driver(batch)
    others = [sequence([5]) for _ in range(neighbours)]
    gone = sequence(prompt(100))
    driver.add(*others, gone)
    driver.step()
    with monkeypatch.context() as patch:
        patch.setattr(mx, "stack", broken)
        driver.end(gone, keep=True)
    if others:
        with pytest.raises(StepFailed) as failed:
            driver.step()
        assert failed.value.running == []
    assert batch.due_s([], 0.0) == float("inf")
    assert run(batch, sequence([1, 2, 3])) == [expected]


@pytest.mark.parametrize("neighbours", [0, 2])
def test_what_cannot_be_given_back_fails_the_next_step_and_nothing_before(
    new_batch: MakeBatch, monkeypatch: pytest.MonkeyPatch, neighbours: int
) -> None:
    batch = new_batch()
    [expected] = run(batch, sequence([1, 2, 3]))
    driver = Driver(batch)
    others = [sequence(prompt(30, salt)) for salt in range(neighbours)]
    gone = sequence(prompt(30))
    driver.add(gone, *others)
    driver.step()
    driver.end(gone)
    with monkeypatch.context() as patch:
        patch.setattr(mx, "async_eval", broken)
        batch.release()
    if others:
        with pytest.raises(StepFailed) as failed:
            driver.step()
        assert failed.value.running == []
    assert batch.due_s([], 0.0) == float("inf")
    assert run(batch, sequence([1, 2, 3])) == [expected]


@pytest.mark.parametrize(
    "message",
    [
        "[malloc] Unable to allocate 987654321 bytes.",
        "[metal::malloc] Attempting to allocate 987654321 bytes which is greater than the maximum of 5 bytes.",
    ],
)
def test_running_out_of_memory_is_told_with_numbers(
    new_batch: MakeBatch, monkeypatch: pytest.MonkeyPatch, message: str
) -> None:
    driver = Driver(new_batch())
    driver.add(sequence([4]))
    monkeypatch.setattr(Sampler, "sample", failing(message))
    with pytest.raises(StepFailed) as failed:
        driver.step()
    fault = failed.value.fault
    assert (fault.kind, failed.value.for_memory) == ("out_of_memory", True)
    assert fault.details["need_bytes"] == 987654321
    assert 0 < int(fault.details["have_bytes"]) < 987654321


def failing(message: str) -> Callable[..., Sampled]:
    def sample(self: Sampler, rows: list[int], positions: list[int], logits: mx.array) -> Sampled:
        raise RuntimeError(message)

    return sample


@pytest.mark.parametrize("sampled", [0, 3])
def test_nothing_of_a_step_that_failed_apart_is_found_again(random_models: Path, sampled: int) -> None:
    _, vocabulary, forward = forward_of(random_models, "native sliding")
    prefixes = Prefixes(Store(LIMIT_BYTES), "m", forward.spec)
    driver = Driver(MlxBatch(forward, vocabulary, LIMIT_BYTES, prefixes))
    tokens = [(3 * i) % 300 for i in range(CHUNK if sampled else 3 * CHUNK)]
    driver.add(sequence(tokens, 200))
    for _ in range(1 + sampled):
        driver.step()
    run = forward.run

    def fail(step: StepInput) -> LateOutput:
        assert isinstance(run(step), LateOutput)

        def logits() -> Any:
            raise MemoryError

        return LateOutput(logits)

    forward.run = fail  # type: ignore[method-assign]
    with suppress(StepFailed):
        for _ in range(3):
            driver.step()
        pytest.fail("the step has not failed")
    found = prefixes.find(array("i", [*tokens, 0]))
    assert found.length <= CHUNK  # what the first step computed
    for piece in found.slices:
        assert all(bool(mx.all(mx.isfinite(span.data))) for span in piece.segment.spans)


def test_a_token_that_was_read_is_told_although_the_next_step_cannot_be_started(random_models: Path) -> None:
    _, vocabulary, forward = forward_of(random_models, "native qwen3")
    driver = Driver(MlxBatch(forward, vocabulary, LIMIT_BYTES))
    one = sequence([1, 2, 3], 20)
    driver.add(one)
    while len(one.generated) < 2:
        driver.step()

    def refuse(step: StepInput) -> LateOutput:
        raise MemoryError

    forward.run = refuse  # type: ignore[method-assign]
    told = driver.step()
    assert [event.tokens for event in told] == [one.generated[-1:]]
    with pytest.raises(StepFailed) as failed:
        driver.step()
    assert failed.value.running == [one]
