"""The native sampler against the definitions in doubles, and against mlx: the same tokens but for near ties."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from numpy.typing import NDArray

from mlx_sidecar.engine.execution.sampler import Sampler
from mlx_sidecar.engine.execution.sampler.noise import key, stream
from mlx_sidecar.link.messages import Sampling
from tests.support.samplings import VOCABULARY, ints, probability, samplings, seeds

Row = NDArray[np.float32]
CLOSE = 2e-5


class Contest(NamedTuple):
    """The scores of all tokens in doubles, minus infinity for those that are dropped."""

    scores: NDArray[np.float64]
    clear: bool  # whether rounding cannot decide which tokens are dropped

    def allows(self, token: int) -> bool:
        """Whether ``token`` wins, or would but for rounding."""
        return not self.clear or bool(self.scores[token] >= self.scores.max() - CLOSE)


def contest(logits: Row, sampling: Sampling, position: int) -> Contest:
    shifted = (logits - logits.max()).astype(np.float64)
    if sampling.temperature == 0:
        return Contest(shifted, clear=True)
    weights, ranked = np.exp(shifted), np.argsort(-shifted, kind="stable")
    floor, clear = -math.inf, True
    if 0 < sampling.top_k < len(logits):
        ranked = ranked[: sampling.top_k]
        floor = shifted[ranked[-1]]
    if sampling.top_p < 1:
        before = np.cumsum(weights[ranked]) - weights[ranked]
        share = sampling.top_p * weights[ranked].sum()
        # Tokens of equal weight stay together, so only the first of them can begin beyond the end.
        first = shifted[ranked[1:]] < shifted[ranked[:-1]]
        clear = bool(np.all(np.abs(before - share)[1:][first] > 1e-5 * weights.sum()))
        floor = max(floor, shifted[ranked[max(1, int((before < share).sum())) - 1]])
    if sampling.min_p > 0:
        clear &= bool(np.all(np.abs(shifted - math.log(sampling.min_p)) > 1e-5))
        floor = max(floor, math.log(sampling.min_p))
    words = mx.array(key(stream(sampling.seed), position), dtype=mx.uint32)
    uniform = np.asarray(mx.random.uniform(shape=(len(logits),), key=words)).astype(np.float64)
    with np.errstate(divide="ignore"):
        noise = np.maximum(-np.log(-np.log(uniform)), -100)
        scores = shifted / np.float32(sampling.temperature) + noise
    return Contest(np.where(shifted >= floor, scores, -math.inf), clear)


def sampled(logits: Row, sampling: Sampling, position: int) -> int:
    sampler = Sampler(len(logits))
    sampler.open(0, sampling, [0], [])
    return ints(sampler.sample([0], [position], logits[None]).tokens)[0]


filters = st.builds(
    Sampling,
    temperature=st.sampled_from([0.0, 0.3, 1.0, 3.0, 1e30]),  # at the last one the noise alone decides
    top_p=probability(0.01),
    top_k=st.one_of(st.just(0), st.integers(1, 200)),
    min_p=st.one_of(st.just(0.0), st.floats(1e-5, 1.0)),
    seed=seeds,
)


@settings(max_examples=300)
@given(
    st.one_of(st.integers(1, 70), st.integers(1, 6000)),
    filters,
    st.integers(0, 2**32 - 1),
    st.sampled_from([0.01, 1.0, 4.0, 20.0]),
)
def test_a_token_wins_by_its_score_in_doubles(vocabulary: int, sampling: Sampling, seed: int, spread: float) -> None:
    logits = np.random.default_rng(seed).normal(0, spread, vocabulary).astype(np.float32)
    sampling = replace(sampling, min_p=sampling.min_p * 0.999)
    for position in range(4):
        assert contest(logits, sampling, position).allows(sampled(logits, sampling, position))


@settings(max_examples=200)
@given(
    st.lists(st.integers(-3, 3).map(float) | st.just(-math.inf), min_size=1, max_size=100),
    filters,
)
def test_equal_logits_are_kept_and_drawn_alike(values: list[float], sampling: Sampling) -> None:
    logits = np.array([1.0, *values], dtype=np.float32)
    for position in range(4):
        assert contest(logits, sampling, position).allows(sampled(logits, sampling, position))


@given(st.integers(1, 300), st.lists(st.tuples(seeds, st.integers(0, 2**20)), min_size=20, max_size=20))
def test_the_noise_of_every_token_is_that_of_mlx(vocabulary: int, keys: list[tuple[int, int]]) -> None:
    """Among equal logits the token of the largest uniform number wins, wherever that is."""
    for seed, position in keys:
        words = mx.array(key(stream(seed), position), dtype=mx.uint32)
        uniform = np.asarray(mx.random.uniform(shape=(vocabulary,), key=words))
        token = sampled(np.zeros(vocabulary, np.float32), Sampling(temperature=1.0, seed=seed), position)
        assert uniform[token] >= uniform.max() - 1e-6


def test_two_thousand_draws_of_mlx_are_drawn_again() -> None:
    """Of every kind of row at once; where a token differs, two scores are near each other."""
    vocabulary, count, steps, random = 3001, 64, 32, np.random.default_rng(5)
    rows = [
        Sampling(
            temperature=(0.4, 0.8, 1.0, 1.5)[row % 4],
            top_p=(1.0, 0.9, 1.0, 0.5, 0.97)[row % 5],
            top_k=(0, 0, 40, 0, 7, 700)[row % 6],
            min_p=(0.0, 0.0, 0.02)[row % 3],
            seed=row,
        )
        for row in range(count)
    ]
    lazy, native = Sampler(vocabulary), Sampler(vocabulary)
    for row, sampling in enumerate(rows):
        lazy.open(row, sampling, [], [])
        native.open(row, sampling, [], [])
    order, different = list(range(count)), 0
    for position in range(steps):
        logits = random.normal(0, 3, (count, vocabulary)).astype(np.float32)
        positions = [position] * count
        expected = ints(lazy.sample(order, positions, mx.array(logits)).tokens)
        ours = ints(native.sample(order, positions, logits).tokens)
        for row, (token, other) in enumerate(zip(ours, expected, strict=True)):
            if token != other:
                different += 1
                judge = contest(logits[row], rows[row], position)
                assert judge.allows(token)
                assert judge.allows(other)
    assert different <= 3


@settings(max_examples=40)
@given(st.lists(samplings, min_size=1, max_size=6), st.integers(0, 2**32 - 1))
def test_penalties_biases_and_logprobs_are_those_of_mlx(mix: list[Sampling], seed: int) -> None:
    random = np.random.default_rng(seed)
    lazy, native = Sampler(VOCABULARY), Sampler(VOCABULARY)
    # Filters are left to the tests above, because here the changed logits are not known.
    mix = [replace(sampling, top_p=1.0, min_p=0.0) for sampling in mix]
    for row, sampling in enumerate(mix):
        lazy.open(row, sampling, [1, 2, 2], [3])
        native.open(row, sampling, [1, 2, 2], [3])
    rows = [int(row) for row in random.permutation(len(mix))]
    for position in range(4, 7):
        logits = random.normal(0, 4, (len(mix), VOCABULARY)).astype(np.float32)
        positions = [position] * len(mix)
        expected, ours = lazy.sample(rows, positions, mx.array(logits)), native.sample(rows, positions, logits)
        assert ours.peaks.tolist() == expected.peaks.tolist()
        assert ours.tokens.tolist() == ints(expected.tokens)
        theirs, answers = expected.read(), ours.read()
        assert answers.keys() == theirs.keys()
        for row, answer in answers.items():
            assert answer.logprob == pytest.approx(theirs[row].logprob, abs=1e-5)
            assert [token for token, _ in answer.top] == [token for token, _ in theirs[row].top]
            assert [value for _, value in answer.top] == pytest.approx([v for _, v in theirs[row].top], abs=1e-5)


@settings(max_examples=40)
@given(st.lists(samplings, min_size=2, max_size=6), st.integers(0, 2**32 - 1))
def test_a_row_gives_the_same_bits_alone_and_in_any_batch(mix: list[Sampling], seed: int) -> None:
    logits = np.random.default_rng(seed).normal(0, 4, (len(mix), VOCABULARY)).astype(np.float32)
    together, alone = Sampler(VOCABULARY), Sampler(VOCABULARY)
    for row, sampling in enumerate(mix):
        together.open(row, sampling, [1, 2, 2], [3])
        alone.open(row, sampling, [1, 2, 2], [3])
    order = list(reversed(range(len(mix))))
    batch = together.sample(order, [4] * len(mix), logits[order])
    for place, row in enumerate(order):
        own = alone.sample([row], [4], logits[row : row + 1])
        assert own.tokens[0] == batch.tokens[place]
        assert own.peaks[0] == batch.peaks[place]
        assert own.read().get(0) == batch.read().get(place)


@pytest.mark.parametrize("sampling", [{}, {"temperature": 1.0}, {"temperature": 0.5, "top_p": 0.9}, {"logprobs": 2}])
def test_rows_without_a_choice_are_the_same_as_by_mlx(sampling: dict[str, Any]) -> None:
    logits = np.random.default_rng(3).normal(0, 3, (6, 1027)).astype(np.float32)
    logits[0, 1000] = math.nan
    logits[1, [0, 1026]] = math.inf, math.nan
    logits[2, 17] = math.inf
    logits[3] = -math.inf
    logits[4, 1:] = -math.inf
    sampler = Sampler(1027)
    for row in range(6):
        sampler.open(row, Sampling(**sampling), [0], [])
    ours = sampler.sample(list(range(6)), [1] * 6, logits)
    assert ours.unsound() == {0, 1, 2, 3}
    assert ours.unsound() == sampler.sample(list(range(6)), [1] * 6, mx.array(logits)).unsound()
    assert ours.tokens[4] == 0
    assert np.all((ours.tokens >= 0) & (ours.tokens < 1027))


@pytest.mark.parametrize("temperature", [1e-300, 1e-30, 1e-8, 1e30, 1e300])
@pytest.mark.parametrize("size", [1e-38, 1e-3, 1e6, 3e38])
def test_extreme_temperatures_and_logits_overflow_nothing(temperature: float, size: float) -> None:
    logits = (np.random.default_rng(1).uniform(-size, size, 999)).astype(np.float32)
    sampler = Sampler(999)
    sampler.open(0, Sampling(temperature=temperature, seed=4), [0], [])
    for position in range(5):
        theirs = sampler.sample([0], [position], mx.array(logits)[None])
        ours = sampler.sample([0], [position], logits[None])
        assert ints(ours.tokens) == ints(theirs.tokens)
        assert not ours.unsound()


@pytest.mark.parametrize(
    ("logits", "error"),
    [
        (np.zeros((1, 8), np.float64), TypeError),
        (np.zeros((1, 16), np.float32)[:, ::2], TypeError),
        (np.zeros((1, 7), np.float32), ValueError),
        (np.zeros((2, 8), np.float32), ValueError),
        (np.zeros(8, np.float32), ValueError),
    ],
)
def test_logits_of_another_shape_or_type_are_refused(logits: NDArray[Any], error: type[Exception]) -> None:
    sampler = Sampler(8)
    sampler.open(0, Sampling(), [0], [])
    with pytest.raises(error):
        sampler.sample([0], [1], logits)
