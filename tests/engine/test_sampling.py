"""Properties of sampling that hold whatever the distribution."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any, cast

import mlx.core as mx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlx_sidecar.engine.sampling import greedy, noise_key, processors_for, sampler_for
from mlx_sidecar.engine.sequence import Sequence
from mlx_sidecar.link.messages import Sampling
from mlx_sidecar.models.budget import SequenceCost

VOCABULARY = 50
rows = st.lists(st.floats(-20, 20, width=32), min_size=VOCABULARY, max_size=VOCABULARY)
seeds = st.integers(-(2**63), 2**64 - 1)


def sequence(sampling: Sampling, tokens: list[int] | None = None, emitted: int = 0) -> Sequence:
    return Sequence(1, "m", [1] if tokens is None else tokens, emitted, sampling, [], 10, SequenceCost(), 0.0)


def logprobs(row: list[float]) -> mx.array:
    logits = mx.array([row])
    return logits - mx.logsumexp(logits, axis=-1, keepdims=True)


def floats(array: mx.array) -> list[float]:
    return cast("list[float]", array.tolist())


def draw(row: list[float], count: int = 1, **sampling: Any) -> list[int]:
    sampler = sampler_for(sequence(Sampling(**sampling)))
    return [int(floats(sampler(logprobs(row)))[0]) for _ in range(count)]


@given(rows, seeds)
def test_the_narrowest_filters_are_greedy(row: list[float], seed: int) -> None:
    best = max(floats(logprobs(row)[0]))
    filters: list[dict[str, Any]] = [{"top_k": 1}, {"min_p": 1.0}, {"top_p": 1e-6}, {"top_p": 0.0}]
    for narrow in filters:
        [token] = draw(row, temperature=1.0, seed=seed, **narrow)
        assert logprobs(row)[0, token].item() == best


@given(rows, seeds)
def test_a_temperature_near_zero_is_greedy(row: list[float], seed: int) -> None:
    [token] = draw(row, temperature=1e-8, seed=seed)
    assert logprobs(row)[0, token].item() == pytest.approx(max(floats(logprobs(row)[0])), abs=1e-5)


@given(rows, seeds, st.integers(1, VOCABULARY), st.floats(0.01, 1.0), st.floats(0.0, 1.0))
def test_what_is_drawn_passes_every_filter(row: list[float], seed: int, top_k: int, top_p: float, min_p: float) -> None:
    [token] = draw(row, temperature=2.0, seed=seed, top_k=top_k, top_p=top_p, min_p=min_p)
    values = floats(logprobs(row)[0])
    better = sorted((value for value in values if value > values[token]), reverse=True)
    assert len(better) < top_k
    of_top_k = sum(math.exp(value) for value in sorted(values, reverse=True)[:top_k])
    assert sum(map(math.exp, better)) / of_top_k < top_p + 1e-4
    assert values[token] >= max(values) + (math.log(min_p) if min_p else -math.inf) - 1e-4


@given(rows, seeds, st.integers(0, 10_000))
def test_noise_depends_on_seed_and_position_alone(row: list[float], seed: int, position: int) -> None:
    sampling = Sampling(temperature=1.0, seed=seed)
    fresh = sampler_for(sequence(sampling, [1] * (position + 1)))
    walked = sampler_for(sequence(sampling, [1] * max(1, position - 3)))
    for _ in range(position + 1 - max(1, position - 3)):
        walked(logprobs(row[::-1]))
    assert fresh(logprobs(row)).item() == walked(logprobs(row)).item()


def test_neighbouring_seeds_and_positions_have_unrelated_keys() -> None:
    keys = {tuple(floats(noise_key(seed, position))) for seed in range(40) for position in range(40)}
    assert len(keys) == 1600


def test_draws_follow_the_distribution() -> None:
    row = [math.log(weight) for weight in (0.5, 0.25, 0.15, 0.1)]
    count = 4000
    drawn = Counter(draw(row, count, temperature=1.0, seed=3))
    for token, share in enumerate((0.5, 0.25, 0.15, 0.1)):
        # Five standard deviations, and the seed is fixed.
        assert abs(drawn[token] / count - share) < 5 * math.sqrt(share * (1 - share) / count)


def test_temperature_flattens_and_sharpens() -> None:
    row = [2.0, 1.0, 0.0, -1.0]
    share = {t: draw(row, 1000, temperature=t, seed=1).count(0) for t in (0.3, 1.0, 5.0)}
    assert share[0.3] > share[1.0] > share[5.0]


def test_all_greedy_rows_share_one_sampler() -> None:
    assert sampler_for(sequence(Sampling())) is sampler_for(sequence(Sampling(seed=3))) is greedy


@given(
    st.lists(st.integers(0, VOCABULARY - 1), min_size=1, max_size=20),
    st.lists(st.integers(0, VOCABULARY - 1), max_size=20),
    st.floats(0.5, 2.0),
    st.floats(-2.0, 2.0),
    st.floats(-2.0, 2.0),
)
def test_penalties_count_what_they_say(
    prompt: list[int], answer: list[int], repetition: float, presence: float, frequency: float
) -> None:
    """Compared with the formulas, both for an answer decoded here and for one that came with the replay."""
    sampling = Sampling(repetition_penalty=repetition, presence_penalty=presence, frequency_penalty=frequency)
    logits = [math.sin(token) * 3 for token in range(VOCABULARY)]
    expected = []
    for token, logit in enumerate(logits):
        value = logit
        if token in prompt or token in answer:
            value = value / repetition if value > 0 else value * repetition
        expected.append(value - frequency * answer.count(token) - presence * (token in answer))

    def apply(tokens: list[int], emitted: int, then: list[int]) -> list[float]:
        processors = processors_for(sequence(sampling, tokens, emitted))
        out = mx.array([logits])
        for length in range(len(tokens), len(tokens) + len(then) + 1):
            out = mx.array([logits])
            for processor in processors:
                out = processor(mx.array((tokens + then)[:length]), out)
        return floats(out[0])

    assert apply(prompt, 0, answer) == pytest.approx(expected, abs=1e-4)
    assert apply(prompt + answer, len(answer), []) == pytest.approx(expected, abs=1e-4)
