"""Logits that are no numbers end the request that they are of, say so, and leave nothing to any other request."""

from __future__ import annotations

from itertools import count
from typing import Any

import mlx.core as mx
import pytest

from benchmarks.architectures import VOCABULARY, make
from mlx_sidecar.engine.cache.prefixes import Prefixes
from mlx_sidecar.engine.cache.store import Store
from mlx_sidecar.engine.core.batch import Event, Role, Work
from mlx_sidecar.engine.core.sequence import Sequence
from mlx_sidecar.engine.execution.mlx_batch import MlxBatch
from mlx_sidecar.engine.execution.probe import Probed, probe
from mlx_sidecar.engine.execution.sampler import Sampler
from mlx_sidecar.link.messages import Sampling
from tests.support.sequences import sequence_of

BAD = 299  # a token whose embedding is NaN; no sample of the probe has it
FORWARDS = {"llama": "flat", "falcon_h1": "merged", "llama4": "row_by_row"}
SAMPLINGS = {
    "greedy": Sampling(),
    "seeded": Sampling(temperature=0.9, seed=3),
    "filtered": Sampling(temperature=0.9, seed=3, top_p=0.9, top_k=5, min_p=0.01),
    "nucleus": Sampling(temperature=1.5, seed=3, top_p=0.9),
    "penalized": Sampling(repetition_penalty=1.3, presence_penalty=0.5, frequency_penalty=0.2),
    "biased": Sampling(logit_bias={7: 5.0}),
    "with logprobs": Sampling(logprobs=4),
}
numbers = count(1)


@pytest.fixture(scope="module", params=FORWARDS)
def geometry(request: pytest.FixtureRequest) -> Probed:
    model = make(request.param, ill=False)
    embedding = next(module for _, module in model.named_modules() if hasattr(module, "as_linear"))
    embedding.weight[BAD] = mx.nan
    found = probe(request.param, model)
    assert found.forward.name == FORWARDS[request.param]
    return found


class Batch:
    """A batch that takes prompts whole and decodes all that run, with the next step in flight."""

    def __init__(self, geometry: Probed) -> None:
        self.prefixes = Prefixes(Store(1 << 30), "m", geometry.forward.spec)
        cached = None if geometry.forward.uncacheable else self.prefixes
        self.batch = MlxBatch(geometry.forward, geometry.vocabulary, 1 << 34, cached)

    def run(self, *sequences: Sequence) -> dict[int, Event]:
        """The last event of each."""
        ended: dict[int, Event] = {}
        running = list(sequences)
        for sequence in sequences:
            self.batch.open(sequence)
        while running:
            due = [sequence for sequence in running if not sequence.spent]
            prefills = any(sequence.pending > 1 for sequence in due)
            held = prefills and self.batch.in_flight
            roles = [Role.DECODE if s.pending == 1 else Role.PREFILL for s in due]
            work = [Work(s, s.pending, role) for s, role in zip(due, roles, strict=True)]
            for event in self.batch.step([] if held else work, 0.0):
                if event.reason is not None:
                    ended[event.sequence.id] = event
                    running.remove(event.sequence)
                    self.batch.close(event.sequence, keep=event.reason != "error")
        return ended


def sequence(tokens: list[int], sampling: Sampling, limit: int = 6) -> Sequence:
    return sequence_of(next(numbers), tokens, limit, sampling)


@pytest.mark.parametrize("how", SAMPLINGS)
def test_a_row_that_fails_ends_alone_and_says_why(geometry: Probed, how: str) -> None:
    sampling = SAMPLINGS[how]
    alone = sequence([5, 6, 7, 8], sampling)
    Batch(geometry).run(alone)
    neighbour, failed = sequence([5, 6, 7, 8], sampling), sequence([4, BAD, 9], sampling)
    ended = Batch(geometry).run(failed, neighbour)
    assert neighbour.generated == alone.generated
    assert len(alone.generated) == 6
    event = ended[failed.id]
    assert (event.reason, failed.generated) == ("error", [])
    assert event.fault is not None
    assert event.fault.kind == "non_finite_logits"
    assert event.fault.details == {"model": "m", "position": 3}


def test_a_row_that_fails_while_the_next_step_is_in_flight_keeps_what_it_had_said(geometry: Probed) -> None:
    forced = sequence([5, 6, 7], Sampling(logit_bias={BAD: 1e39}))
    neighbour = sequence([5, 6, 7], Sampling(), limit=9)
    ended = Batch(geometry).run(forced, neighbour)
    assert forced.generated == [BAD]
    assert ended[forced.id].reason == "error"
    assert len(neighbour.generated) == 9
    assert ended[neighbour.id].reason == "length"


def test_what_a_failed_prompt_computed_is_not_cached(geometry: Probed) -> None:
    batch = Batch(geometry)
    prompt = [5, BAD, *(at % 200 for at in range(150))]
    batch.run(sequence(prompt, Sampling()))
    assert batch.prefixes.reach(sequence(prompt, Sampling()).history()) == 0
    good = sequence([5, *(at % 200 for at in range(150))], Sampling())
    batch.run(good)
    assert len(good.generated) == 6
    assert (batch.prefixes.reach(good.history()) > 0) == (not geometry.forward.uncacheable)


def sampled(logits: list[list[float]], *samplings: Sampling) -> tuple[list[Any], set[int]]:
    sampler = Sampler(len(logits[0]))
    for row, sampling in enumerate(samplings):
        sampler.open(row, sampling, [1], [2])
    rows = list(range(len(samplings)))
    found = sampler.sample(rows, [2] * len(rows), mx.array(logits))
    tokens: Any = found.tokens.tolist()
    return tokens, found.unsound()


@pytest.mark.parametrize("how", SAMPLINGS)
@pytest.mark.parametrize("bad", [mx.nan, mx.inf])
@pytest.mark.parametrize("at", [0, 3, 8])
def test_one_logit_that_is_no_number_makes_a_row_unsound_and_no_other(how: str, bad: float, at: int) -> None:
    good = [0.5, -1.0, 2.0, 0.0, -3.0, 1.0, 0.1, 0.2, -mx.inf]
    broken = [*good]
    broken[at] = bad
    sampling = SAMPLINGS[how]
    (token,), unsound = sampled([good], sampling)
    assert not unsound
    tokens, unsound = sampled([good, broken, good], sampling, sampling, sampling)
    assert unsound == {1}
    assert tokens[0] == tokens[2] == token


@pytest.mark.parametrize("how", SAMPLINGS)
def test_minus_infinity_rules_a_token_out_and_all_of_it_rules_the_row_out(how: str) -> None:
    one = [-mx.inf] * 8 + [1.0]
    tokens, unsound = sampled([one, [-mx.inf] * 9], SAMPLINGS[how], SAMPLINGS[how])
    assert (tokens[0], unsound) == (8, {1})


@pytest.mark.parametrize(
    ("odd", "expected"),
    [
        (Sampling(temperature=1e-46), 2),
        (Sampling(temperature=5e-324, seed=1), 2),
        (Sampling(repetition_penalty=1e-300), 2),  # token 2 was said: what likes it is made to like it for ever
        (Sampling(repetition_penalty=1e300), 3),
        (Sampling(frequency_penalty=1e39), 3),
        (Sampling(presence_penalty=-1e39), 2),
        (Sampling(logit_bias={0: 1e39}), 0),
        (Sampling(logit_bias={2: -1e39}), 3),
        (Sampling(logit_bias={0: 1e308, 2: -1e308}, temperature=1e-30), 0),
    ],
)
def test_what_float32_cannot_hold_does_what_it_says(odd: Sampling, expected: int) -> None:
    assert sampled([[0.5, -1.0, 2.0, 1.0]], odd) == ([expected], set())


def test_a_temperature_beyond_float32_makes_all_tokens_alike() -> None:
    found = {sampled([[0.5, -1.0, 2.0, 1.0]], Sampling(temperature=1e39, seed=seed))[0][0] for seed in range(60)}
    assert found == {0, 1, 2, 3}


def test_the_probe_does_not_meet_the_token_that_fails() -> None:
    assert BAD == VOCABULARY - 1
