"""Sampling parameters to draw from, and ways to run a sampler alone."""

from __future__ import annotations

from typing import Any, cast

import mlx.core as mx
import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from mlx_sidecar.engine.execution.sampler import Sampler
from mlx_sidecar.link.messages import Sampling

VOCABULARY = 50
values = st.floats(-20, 20, width=32)
rows_of_logits = st.lists(values, min_size=VOCABULARY, max_size=VOCABULARY)
seeds = st.integers(-(2**63), 2**64 - 1)
tokens = st.integers(0, VOCABULARY - 1)


def probability(least: float) -> st.SearchStrategy[float]:
    return st.one_of(st.just(1.0), st.floats(least, 1.0))


samplings = st.builds(
    Sampling,
    temperature=st.one_of(st.just(0.0), st.floats(0.01, 5.0)),
    top_p=probability(0.01),
    top_k=st.one_of(st.just(0), st.integers(0, 2 * VOCABULARY)),
    min_p=st.one_of(st.just(0.0), st.floats(0.0, 1.0)),
    repetition_penalty=st.one_of(st.just(1.0), st.floats(0.5, 2.0)),
    presence_penalty=st.one_of(st.just(0.0), st.floats(-2.0, 2.0)),
    frequency_penalty=st.one_of(st.just(0.0), st.floats(-2.0, 2.0)),
    logit_bias=st.dictionaries(tokens, st.floats(-100, 100), max_size=3),
    seed=seeds,
    logprobs=st.one_of(st.none(), st.integers(0, 20)),
)


def ints(array: mx.array | NDArray[np.int32]) -> list[int]:
    return cast("list[int]", array.tolist())


def draw(logits: list[float], count: int = 1, **sampling: Any) -> list[int]:
    """One row at ``count`` positions."""
    sampler = Sampler(len(logits))
    sampler.open(1, Sampling(**sampling), [0], [])
    return [ints(sampler.sample([1], [position], mx.array([logits])).tokens)[0] for position in range(1, count + 1)]


def walk(sampler: Sampler, row: int, start: int, logits: mx.array) -> list[int]:
    """The tokens of ``row`` sampled alone, one for each of ``logits`` [steps, vocabulary], from position ``start``."""
    return [
        ints(sampler.sample([row], [start + step], logits[step : step + 1]).tokens)[0] for step in range(len(logits))
    ]
