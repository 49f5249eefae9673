"""Top-k, top-p and min-p keep the right tokens, and these are drawn with the right probabilities."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any, cast

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mlx_sidecar.engine.execution.sampler.filters import Filter, filter_kind
from mlx_sidecar.link.messages import Sampling
from tests.support.samplings import (
    VOCABULARY,
    draw,
    ints,
    probability,
    rows_of_logits,
    seeds,
)


def kept(logits: np.ndarray[Any, Any], sampling: Sampling) -> tuple[set[int], bool]:
    """The tokens that no filter drops, in doubles, one filter after the other; and whether rounding cannot matter."""
    order, clear = sorted(range(len(logits)), key=lambda token: -logits[token]), True
    if 0 < sampling.top_k < len(logits):
        order = order[: sampling.top_k]
    weights = np.exp((logits[order] - logits[order[0]]).astype(np.float64))
    if sampling.top_p < 1:
        before, share = np.cumsum(weights) - weights, sampling.top_p * weights.sum()
        clear = bool(np.all(np.abs(before - share) > 1e-5 * weights.sum()))
        order = order[: int((before < share).sum())]
    if sampling.min_p:
        clear &= bool(np.all(np.abs(weights - sampling.min_p)[1:] > 1e-5))
        order = order[: int((weights >= sampling.min_p).sum())]
    return {token for token in range(len(logits)) if logits[token] >= logits[order[-1]]}, clear


@settings(max_examples=150)
@given(
    st.sampled_from([1, 2, 50, 513, 1025, 4500]),
    st.integers(0, 2**32 - 1),
    st.sampled_from([0.1, 1.0, 4.0]),
    st.one_of(st.just(0), st.integers(1, 1500)),
    probability(0.01),
    st.one_of(st.just(0.0), st.floats(1e-5, 1.0)),
)
def test_the_filters_keep_what_the_definitions_say(
    vocabulary: int, seed: int, spread: float, top_k: int, top_p: float, min_p: float
) -> None:
    logits = np.random.default_rng(seed).normal(0, spread, vocabulary).astype(np.float32)
    sampling = Sampling(temperature=1.0, top_k=top_k, top_p=top_p, min_p=min_p)
    expected, clear = kept(logits, sampling)
    assume(clear)
    shifted = mx.array(logits - logits.max())[None]
    dropped = Filter(filter_kind(sampling, vocabulary), [sampling]).dropped(shifted)
    ours = set(range(vocabulary))
    if dropped is not None:
        ours -= {token for token, out in enumerate(cast("list[bool]", dropped[0].tolist())) if out}
    assert ours == expected


def dropped_count(logits: np.ndarray[Any, Any], rows: list[Sampling]) -> list[int]:
    """How many tokens each of ``rows``, which go one way, drops of logits whose maximum is 0."""
    shifted = mx.broadcast_to(mx.array(logits), (len(rows), len(logits)))
    dropped = Filter(filter_kind(rows[0], len(logits)), rows).dropped(shifted)
    assert dropped is not None
    return ints(dropped.sum(axis=-1))


def test_a_nucleus_may_end_at_any_rank() -> None:
    """With a vocabulary that is halved, where the count is odd and where it is even."""
    logits = np.linspace(-1, 0, 1027, dtype=np.float32)
    heads = np.cumsum(np.exp(logits[::-1].astype(np.float64)))
    ends = (heads - np.exp(logits[::-1]) / 2) / heads[-1]  # in the middle of the last token
    rows = [Sampling(temperature=1.0, top_p=float(end)) for end in ends]
    assert dropped_count(logits, rows) == list(range(1026, -1, -1))


def test_top_k_alone_keeps_improbable_tokens_beside_a_row_with_top_p() -> None:
    logits = np.array([0, -50, -60, -70, -80], dtype=np.float32)
    rows = [Sampling(temperature=1.0, top_k=3), Sampling(temperature=1.0, top_k=3, top_p=0.99)]
    assert dropped_count(logits, rows) == [2, 4]


@pytest.mark.parametrize("filters", [{"top_k": 2}, {"top_p": 0.5}, {"top_k": 3, "top_p": 0.6}, {"min_p": 0.5}])
def test_tokens_equal_to_the_last_one_kept_are_kept(filters: dict[str, Any]) -> None:
    drawn = set(draw([3.0, 3.0, 3.0, 3.0, 0.0, -math.inf], 200, temperature=0.5, **filters))
    assert drawn == {0, 1, 2, 3}


@given(rows_of_logits, seeds)
def test_the_narrowest_filters_are_greedy(logits: list[float], seed: int) -> None:
    filters: list[dict[str, Any]] = [{"top_k": 1}, {"min_p": 1.0}, {"top_p": 1e-9}, {"top_p": 0.0}]
    for narrow in filters:
        [token] = draw(logits, temperature=1.0, seed=seed, **narrow)
        # Top-p cannot tell apart what has the same weight.
        assert logits[token] == pytest.approx(max(logits), abs=1e-6 if "top_p" in narrow else 0)


@given(rows_of_logits, seeds, st.sampled_from([1e-300, 1e-30, 1e-8]))
def test_a_temperature_near_zero_is_greedy(logits: list[float], seed: int, temperature: float) -> None:
    [token] = draw(logits, temperature=temperature, seed=seed)
    assert logits[token] == pytest.approx(max(logits), abs=1e-5)


@pytest.mark.parametrize(
    "sampling",
    [
        {"temperature": 1.0},
        {"temperature": 0.6},
        {"temperature": 1.7, "top_k": 3},
        {"temperature": 1.0, "top_p": 0.7},
        {"temperature": 1.3, "top_k": 4, "top_p": 0.9},
        {"temperature": 1.0, "min_p": 0.2},
        {"temperature": 2.0, "logit_bias": {5: 2.5}, "presence_penalty": 0.0},
    ],
)
def test_frequencies_follow_the_distribution(sampling: dict[str, Any]) -> None:
    """Chi-square over positions; the seed is fixed, the bound would be passed once in 10,000 seeds."""
    logits = np.log(np.array([0.4, 0.25, 0.15, 0.1, 0.07, 0.03], dtype=np.float32))
    changed = logits + np.array([sampling.get("logit_bias", {}).get(token, 0) for token in range(6)])
    chosen = sorted(kept(changed, Sampling(**sampling))[0])
    expected = np.exp(changed[chosen] / sampling["temperature"])
    expected *= 3000 / expected.sum()
    drawn = Counter(draw(logits.tolist(), 3000, seed=3, **sampling))
    assert set(drawn) <= set(chosen)
    chi_square = sum((drawn[token] - share) ** 2 / share for token, share in zip(chosen, expected, strict=True))
    assert chi_square < {2: 18.5, 3: 21.2, 5: 25.8}[len(chosen) - 1]


@given(rows_of_logits, seeds, st.integers(VOCABULARY, 10**9))
def test_a_top_k_of_the_whole_vocabulary_or_more_is_none(logits: list[float], seed: int, top_k: int) -> None:
    assert draw(logits, 3, temperature=1.0, seed=seed, top_k=top_k) == draw(logits, 3, temperature=1.0, seed=seed)
