"""The seam for logits processors, with processors of a test's own: order, rows, tokens, and one that reads its last."""

from __future__ import annotations

from functools import partial
from itertools import count
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlx_sidecar.engine.core.batch import Event, Role, Work
from mlx_sidecar.engine.core.memory_ledger import MemoryLedger
from mlx_sidecar.engine.core.sequence import Sequence
from mlx_sidecar.engine.execution import mlxlm
from mlx_sidecar.engine.execution.mlx_batch import MlxBatch
from mlx_sidecar.engine.execution.probe import probe
from mlx_sidecar.engine.execution.sampler import FACTORIES, Sampler
from mlx_sidecar.engine.scheduling.scheduler import Limits, Scheduler
from mlx_sidecar.link.messages import Sampling
from tests.support.logits_processors import SUCCEEDING, Recorder, Successors
from tests.support.samplings import ints
from tests.support.sequences import sequence_of

VOCABULARY = 20
LIMIT = 12
numbers = count(1)


@settings(max_examples=60)
@given(
    st.permutations([1, 2, 3]),
    st.lists(st.sets(st.sampled_from([0, 1, 2])), min_size=1, max_size=8),
    st.lists(st.booleans(), min_size=8, max_size=8),
    st.integers(0, 2**32 - 1),
)
def test_each_processor_changes_its_rows_and_no_other_in_order(
    orders: list[int], asks: list[set[int]], warm: list[bool], seed: int
) -> None:
    """Whatever rows ask for which of three processors: the one of the highest order has the last word."""
    made: list[Recorder] = []

    def factory(number: int, vocabulary: int) -> Recorder:
        rows = {row for row, asked in enumerate(asks) if number in asked}
        made.append(Recorder(vocabulary, order=orders[number], token=number, rows=rows))
        return made[-1]

    sampler, plain = Sampler(VOCABULARY, [partial(factory, number) for number in range(3)]), Sampler(VOCABULARY)
    rows = list(range(len(asks)))
    for row in rows:
        sampling = Sampling(temperature=1e-6 * warm[row], top_k=1, seed=row)
        sampler.open(row, sampling, [1], [])
        plain.open(row, sampling, [1], [])
    logits = mx.array(np.random.default_rng(seed).normal(0, 3, (len(rows), VOCABULARY)).astype(np.float32))
    unchanged = ints(plain.sample(rows, [1] * len(rows), logits).tokens)
    tokens = ints(sampler.sample(rows, [1] * len(rows), logits).tokens)
    last = [max(asked, key=orders.__getitem__, default=None) for asked in asks]
    assert tokens == [own if word is None else word for own, word in zip(unchanged, last, strict=True)]
    for recorder in made:
        assert recorder.accepted == {row: [tokens[row]] for row in recorder.rows}
    for row in rows:
        sampler.close(row)
    assert not any(recorder.open_rows for recorder in made)


def test_penalties_come_first_and_bias_second_wherever_they_stand_in_the_list() -> None:
    logits, chosen = mx.array([[0.0, 10.0, 0.0]]), []
    for factories in (FACTORIES, FACTORIES[::-1]):
        sampler = Sampler(3, factories)
        # Penalised first and then raised, token 1 has 1 + 2, the other way round 1.2: less than the 2 of token 2.
        sampler.open(0, Sampling(repetition_penalty=10.0, logit_bias={1: 2.0, 2: 2.0}), [1], [])
        chosen += ints(sampler.sample([0], [1], logits).tokens)
    assert chosen == [1, 1]


def test_a_row_reads_its_last_token_if_one_of_its_own_processors_does() -> None:
    sampler = Sampler(VOCABULARY, [*FACTORIES, Successors])
    sampler.open(0, Sampling(repetition_penalty=1.2, logit_bias={1: 1.0}), [1], [])
    sampler.open(1, Sampling(seed=SUCCEEDING), [1], [])
    assert [sampler.reads_last_token(row) for row in (0, 1)] == [False, True]


def test_what_a_processor_reads_is_evaluated_with_its_step_and_nothing_else_is() -> None:
    processor = Successors(VOCABULARY)
    sampler = Sampler(VOCABULARY, [*FACTORIES, lambda _: processor])
    sampler.open(0, Sampling(repetition_penalty=1.2), [1], [])
    sampler.open(1, Sampling(seed=SUCCEEDING), [1], [])
    for rows, extra in (([0], 0), ([0, 1], 1)):
        sampled = sampler.sample(rows, [1] * len(rows), mx.zeros((len(rows), VOCABULARY)))
        assert len(sampled.arrays) == 2 + extra
    [(accepted, _)] = processor.unread.values()
    assert sampled.arrays[-1] is accepted


class Loop:
    """A batch and the scheduler, as the step loop drives them. ``plans`` are the ids of each step's sequences."""

    def __init__(self, batch: MlxBatch) -> None:
        self.batch, self.scheduler = batch, Scheduler(Limits(), MemoryLedger(1 << 34))
        self.events: list[Event] = []
        self.plans: list[list[int]] = []

    def add(self, *sequences: Sequence) -> None:
        for new in sequences:
            self.scheduler.enqueue(new, 0.0)
            self.admit(new)

    def admit(self, sequence: Sequence) -> None:
        self.scheduler.admit(sequence, 0.0)
        self.batch.open(sequence)

    def drop(self, sequence: Sequence) -> None:
        self.batch.close(sequence, keep=False)
        self.scheduler.park(sequence, 0.0, keep=False)

    def step(self) -> None:
        work: list[Work] = self.scheduler.plan("m", 0.0)
        if self.batch.in_flight and any(part.role is Role.PREFILL for part in work):
            work = []
        assert not any(part.sequence.reads_last_token and part.sequence.in_flight for part in work)
        self.plans.append([part.sequence.id for part in work])
        overlapped = self.batch.in_flight
        events = self.batch.step(work, 0.0)
        if self.batch.in_flight == overlapped:
            self.scheduler.account("m", work, 0.01)
        for event in events:
            self.events.append(event)
            if event.reason is not None:
                self.end(event.sequence, keep=False)

    def end(self, sequence: Sequence, *, keep: bool) -> None:
        self.batch.close(sequence, keep=keep)
        self.scheduler.retire(sequence, 0.0)

    def drain(self) -> None:
        while self.batch.due_s(self.scheduler.running_on("m"), 0.0) == 0.0:
            self.step()


@pytest.fixture(scope="module", params=["qwen3", "mamba"])
def kind(request: pytest.FixtureRequest) -> str:
    kind: str = request.param
    return kind


@pytest.fixture
def loop(random_models: Path, kind: str) -> Loop:
    _, vocabulary, forward = probe(kind, mlxlm.load_model(random_models / kind)[0])
    return Loop(MlxBatch(forward, vocabulary, 1 << 34, processors=(*FACTORIES, Successors)))


SETTINGS = {
    "greedy": Sampling(),
    "penalties": Sampling(repetition_penalty=1.3, frequency_penalty=0.4, logit_bias={5: 1.0}),
    "seeded": Sampling(temperature=0.9, top_p=0.9, seed=3),
    "logprobs": Sampling(temperature=0.7, seed=4, presence_penalty=0.3, logprobs=3),
}


def sequence(tokens: list[int], sampling: Sampling, limit: int = LIMIT) -> Sequence:
    return sequence_of(next(numbers), tokens, limit, sampling)


def successors(last: int, length: int = LIMIT) -> list[int]:
    return list(range(last + 1, last + 1 + length))


def logprobs_of(loop: Loop, sequence: Sequence) -> list[list[tuple[int, float]]]:
    told = [event.logprobs for event in loop.events if event.sequence is sequence]
    return [entry.top for logprobs in told for entry in logprobs or []]


def test_a_row_that_reads_its_last_token_runs_beside_others_whose_tokens_do_not_change(loop: Loop) -> None:
    """Its answer is right only if each token was read before the next step; theirs is what they have without it."""
    alone = {name: sequence([9, 8, 7], sampling) for name, sampling in SETTINGS.items()}
    for one in alone.values():
        loop.add(one)
        loop.drain()
    beside = {name: sequence([9, 8, 7], sampling) for name, sampling in SETTINGS.items()}
    succeeding = [
        sequence([1, 2, 3], Sampling(seed=SUCCEEDING)),
        sequence([4, 5], Sampling(seed=SUCCEEDING, temperature=0.8, repetition_penalty=1.4, logprobs=2)),
    ]
    loop.add(succeeding[0], *beside.values(), succeeding[1])
    loop.drain()
    assert [s.generated for s in succeeding] == [successors(3), successors(5)]
    assert {name: s.generated for name, s in beside.items()} == {name: s.generated for name, s in alone.items()}
    told, expected = (logprobs_of(loop, of["logprobs"]) for of in (beside, alone))
    assert [[token for token, _ in top] for top in told] == [[token for token, _ in top] for top in expected]
    assert len(logprobs_of(loop, succeeding[1])) == LIMIT


def test_rows_beside_one_that_reads_its_last_token_take_part_in_every_step(loop: Loop) -> None:
    free, succeeding = sequence([9, 8, 7], Sampling()), sequence([1, 2, 3], Sampling(seed=SUCCEEDING))
    loop.add(free, succeeding)
    loop.drain()
    steps = loop.plans[:LIMIT]
    assert all(free.id in plan for plan in steps)
    # The first is the prompt's, whose token is read at once.
    assert [succeeding.id in plan for plan in steps] == [True] + [True, False] * 5 + [True]


def test_without_others_a_row_that_reads_its_last_token_is_stepped_and_read_in_one(loop: Loop) -> None:
    succeeding = sequence([1, 2, 3], Sampling(seed=SUCCEEDING))
    loop.add(succeeding)
    for length in range(1, LIMIT + 1):
        loop.step()
        assert succeeding.generated == successors(3, length)
        assert not loop.batch.in_flight


def test_a_row_that_reads_its_last_token_survives_a_dropped_cache_joins_and_leaves(loop: Loop) -> None:
    succeeding = sequence([1, 2, 3], Sampling(seed=SUCCEEDING), limit=40)
    neighbours = [sequence([salt, 11], Sampling(seed=salt, temperature=1.0), limit=200) for salt in range(3)]
    loop.add(neighbours[0], succeeding)
    for stop in range(4, 30, 3):
        while len(succeeding.generated) < stop:
            loop.step()
        if stop == 7:
            loop.add(neighbours[1], neighbours[2])
        if stop == 16:
            loop.end(neighbours[0], keep=False)
        loop.drop(succeeding)  # with its token in flight or without
        loop.step()
        loop.admit(succeeding)
    loop.drain()
    assert succeeding.generated == successors(3, 40)
