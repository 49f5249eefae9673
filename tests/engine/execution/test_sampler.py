"""The sampler against itself: alone, in any batch, resumed, reused; penalties, bias, log-probabilities by formula."""

from __future__ import annotations

import math
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from msgspec.structs import asdict, replace

from mlx_sidecar.engine.execution.sampler import Sampler
from mlx_sidecar.engine.execution.sampler.noise import gumbel_over, key, stream
from mlx_sidecar.link.messages import Sampling
from tests.support.samplings import (
    VOCABULARY,
    draw,
    ints,
    samplings,
    seeds,
    tokens,
    walk,
)


@settings(max_examples=60)
@given(st.lists(samplings, min_size=1, max_size=7), st.integers(1, 3), st.integers(0, 2**32 - 1), st.data())
def test_a_row_gives_the_same_tokens_alone_and_in_any_batch(
    mix: list[Sampling], steps: int, seed: int, data: st.DataObject
) -> None:
    """Rows leave out steps, come in any order, and nothing is evaluated before the end."""
    random = np.random.default_rng(seed)
    together, vocabulary = Sampler(VOCABULARY), VOCABULARY
    texts = [list(map(int, random.integers(0, vocabulary, 3))) for _ in mix]
    for row, (sampling, text) in enumerate(zip(mix, texts, strict=True)):
        together.open(row, sampling, text[:2], text[2:])
    fed: list[list[mx.array]] = [[] for _ in mix]
    results: list[tuple[list[int], Any]] = []
    for _ in range(steps):
        rows = data.draw(st.permutations(range(len(mix))))[: data.draw(st.integers(1, len(mix)))]
        logits = mx.array(random.normal(0, 4, (len(rows), vocabulary)).astype(np.float32))
        results.append((rows, together.sample(rows, [3 + len(fed[row]) for row in rows], logits)))
        for index, row in enumerate(rows):
            fed[row].append(logits[index])
    mx.eval([(sampled.tokens, sampled.logprobs) for _, sampled in results])
    for row, (sampling, text) in enumerate(zip(mix, texts, strict=True)):
        alone = Sampler(vocabulary)
        alone.open(row, sampling, text[:2], text[2:])
        in_batch = [(rows.index(row), sampled) for rows, sampled in results if row in rows]
        for step, (index, sampled) in enumerate(in_batch):
            own = alone.sample([row], [3 + step], fed[row][step][None])
            assert ints(own.tokens) == [ints(sampled.tokens)[index]]
            assert own.read().get(0) == sampled.read().get(index)


@settings(max_examples=5)
@given(st.integers(0, 2**32 - 1))
def test_a_long_row_gives_the_same_tokens_in_a_batch_of_thirty_two(seed: int) -> None:
    """As before, with a vocabulary whose nucleus is found by halving, and odd at that."""
    vocabulary, count = 5003, 32
    logits = mx.array(np.random.default_rng(seed).normal(0, 3, (count, vocabulary)).astype(np.float32))
    together, alone = Sampler(vocabulary), Sampler(vocabulary)
    for row in range(count):
        sampling = Sampling(
            temperature=0.5 + row / 20,
            top_p=(1.0, 0.5, 0.9, 0.999)[row % 4],
            top_k=(0, 0, 40, 0, 700)[row % 5],
            min_p=(0.0, 0.0, 0.01)[row % 3],
            repetition_penalty=(1.0, 1.3)[row % 2],
            seed=row,
        )
        together.open(row, sampling, [row], [])
        alone.open(row, sampling, [row], [])
    rows = list(range(count))
    both = ints(together.sample(rows, [1] * count, logits).tokens)
    assert both == [walk(alone, row, 1, logits[row : row + 1])[0] for row in rows]


@given(seeds, st.integers(0, 10_000), st.integers(1, 100))
def test_noise_is_bit_for_bit_the_same_in_a_batch(seed: int, position: int, vocabulary: int) -> None:
    keys = [key(stream(seed + row), position) for row in range(5)]
    noise = gumbel_over(vocabulary)
    batch = noise(mx.array(keys, dtype=mx.uint32))
    for index, own in enumerate(keys):
        assert mx.array_equal(batch[index : index + 1], noise(mx.array([own], dtype=mx.uint32)))
        plain = mx.random.gumbel((vocabulary,), key=mx.array(own, dtype=mx.uint32))
        assert mx.array_equal(batch[index], mx.maximum(plain, -100))


def test_neighbouring_seeds_and_positions_have_unrelated_keys() -> None:
    keys = {tuple(key(stream(seed), position)) for seed in range(-20, 20) for position in range(40)}
    assert len(keys) == 1600


@pytest.mark.parametrize(
    ("seed", "position", "words"),
    [(0, 0, [2802244911, 1293516399]), (-5, 7, [4005763906, 2028452007]), (2**64 - 1, 4096, [2223700596, 3804127005])],
)
def test_keys_never_change_so_that_seeds_stay_valid(seed: int, position: int, words: list[int]) -> None:
    assert key(stream(seed), position) == words


def reference(logits: np.ndarray[Any, Any], sampling: Sampling, prompt: list[int], answer: list[int]) -> list[float]:
    """Changed logits by the formulas."""
    out = []
    for token, logit in enumerate(map(float, logits)):
        if token in prompt or token in answer:
            logit = logit / sampling.repetition_penalty if logit > 0 else logit * sampling.repetition_penalty
        logit -= sampling.frequency_penalty * answer.count(token) + sampling.presence_penalty * (token in answer)
        out.append(logit + sampling.logit_bias.get(token, 0.0))
    return out


@settings(max_examples=60)
@given(samplings, st.lists(tokens, min_size=1, max_size=9), st.lists(tokens, max_size=9), st.integers(0, 2**32 - 1))
def test_greedy_rows_take_the_likeliest_after_penalties_and_bias(
    sampling: Sampling, prompt: list[int], answer: list[int], seed: int
) -> None:
    steps, random = 6, np.random.default_rng(seed)
    logits = random.normal(0, 2, (steps, VOCABULARY)).astype(np.float32)
    sampler = Sampler(VOCABULARY)
    sampler.open(4, replace(sampling, temperature=0.0), prompt, answer)
    for step, token in enumerate(walk(sampler, 4, len(prompt + answer), mx.array(logits))):
        changed = reference(logits[step], sampling, prompt, answer)
        assert changed[token] == pytest.approx(max(changed), abs=1e-4)
        answer = [*answer, token]


@settings(max_examples=60)
@given(samplings, st.integers(0, 5), st.integers(0, 2**32 - 1))
def test_a_row_opened_with_its_answer_goes_on_as_if_it_had_never_stopped(
    sampling: Sampling, stop: int, seed: int
) -> None:
    logits = mx.array(np.random.default_rng(seed).normal(0, 2, (6, VOCABULARY)).astype(np.float32))
    prompt = [1, 2, 2, 7]
    through = Sampler(VOCABULARY)
    through.open(0, sampling, prompt, [])
    whole = walk(through, 0, 4, logits)
    resumed = Sampler(VOCABULARY)
    resumed.open(9, sampling, prompt, whole[:stop])
    assert walk(resumed, 9, 4 + stop, logits[stop:]) == whole[stop:]


@settings(max_examples=40)
@given(samplings, samplings, st.integers(0, 2**32 - 1))
def test_a_closed_row_leaves_nothing_to_the_next(first: Sampling, second: Sampling, seed: int) -> None:
    logits = mx.array(np.random.default_rng(seed).normal(0, 2, (4, VOCABULARY)).astype(np.float32))
    used, fresh = Sampler(VOCABULARY), Sampler(VOCABULARY)
    used.open(5, Sampling(repetition_penalty=1.5), [1], [])  # keeps the slots alive
    used.open(0, first, [1, 2, 3], [4, 4])
    walk(used, 0, 5, logits)
    used.close(0)
    for sampler in (used, fresh):
        sampler.open(0, second, [8], [])
    assert walk(used, 0, 1, logits) == walk(fresh, 0, 1, logits)


def test_closed_rows_hold_no_memory() -> None:
    vocabulary = 10_000
    sampler, logits = Sampler(vocabulary), mx.zeros((8, vocabulary))
    mx.eval(logits)

    def once() -> int:
        for row in range(8):
            sampler.open(row, Sampling(repetition_penalty=1.1, frequency_penalty=0.1), [row], [1])
        mx.eval(sampler.sample(list(range(8)), [2] * 8, logits).tokens)
        held = mx.get_active_memory()
        for row in range(8):
            sampler.close(row)
        return held

    once()
    before = mx.get_active_memory()
    assert once() - before >= 8 * 2 * 4 * vocabulary
    assert mx.get_active_memory() <= before


@pytest.mark.parametrize("dtype", [mx.float16, mx.bfloat16, mx.float32])
def test_any_floating_type_is_sampled_as_its_float32(dtype: mx.Dtype) -> None:
    logits = mx.array(np.random.default_rng(1).normal(0, 3, (4, VOCABULARY))).astype(dtype)
    sampler = Sampler(VOCABULARY)
    for row, sampling in enumerate(({}, {"temperature": 1.0}, {"temperature": 1.0, "top_p": 0.7}, {"logprobs": 3})):
        sampler.open(row, Sampling(**sampling), [1], [])  # type: ignore[arg-type]
    stored = sampler.sample([0, 1, 2, 3], [1] * 4, logits)
    cast_first = sampler.sample([0, 1, 2, 3], [1] * 4, logits.astype(mx.float32))
    assert ints(stored.tokens) == ints(cast_first.tokens)
    assert stored.read() == cast_first.read()


@given(samplings)
def test_a_vocabulary_of_one_has_one_answer(sampling: Sampling) -> None:
    sampler = Sampler(1)
    sampler.open(0, replace(sampling, logit_bias={}, logprobs=5), [0], [0])
    sampled = sampler.sample([0], [2], mx.array([[3.5]]))
    assert ints(sampled.tokens) == [0]
    [answer] = sampled.read().values()
    assert (answer.logprob, answer.top) == (0.0, [(0, 0.0)])


@given(st.lists(st.booleans(), min_size=VOCABULARY, max_size=VOCABULARY), samplings)
def test_a_token_at_minus_infinity_is_never_taken(closed: list[bool], sampling: Sampling) -> None:
    assume(not all(closed))
    logits = [-math.inf if out else math.sin(token) for token, out in enumerate(closed)]
    for token in draw(logits, 3, **asdict(sampling)):
        assert not closed[token]


@settings(max_examples=60)
@given(
    st.lists(st.tuples(st.one_of(st.none(), st.integers(0, 20)), st.booleans()), min_size=1, max_size=6),
    st.integers(0, 2**32 - 1),
    st.sampled_from([1, 5, VOCABULARY, 3001]),
)
def test_logprobs_are_those_of_the_model_for_exactly_the_rows_that_asked(
    asks: list[tuple[int | None, bool]], seed: int, vocabulary: int
) -> None:
    # Few distinct values, so that many are equal; 0 comes with both signs.
    random, shape = np.random.default_rng(seed), (len(asks), vocabulary)
    logits = random.integers(0, seed % 30 + 1, shape).astype(np.float32) / random.choice([-4, 4], shape).astype(
        np.float32
    )
    sampler = Sampler(vocabulary)
    for row, (count, warm) in enumerate(asks):
        sampling = Sampling(temperature=float(warm), seed=seed, logprobs=count, top_k=3, repetition_penalty=1.2)
        sampler.open(row, sampling, [0], [0])
    sampled = sampler.sample(list(range(len(asks))), [2] * len(asks), mx.array(logits))
    assert sorted(sampled.asked) == [row for row, (count, _) in enumerate(asks) if count is not None]
    assert bool(sampled.logprobs) == bool(sampled.asked)
    for row, answer in sampled.read().items():
        doubles = logits[row].astype(np.float64)
        expected = doubles - doubles.max() - np.log(np.exp(doubles - doubles.max()).sum())
        assert answer.logprob == pytest.approx(expected[ints(sampled.tokens)[row]], abs=1e-4)
        ranked = sorted(range(vocabulary), key=lambda token: (-doubles[token], token))
        assert [token for token, _ in answer.top] == ranked[: asks[row][0]]
        assert [value for _, value in answer.top] == pytest.approx(
            [expected[token] for token, _ in answer.top], abs=1e-4
        )
