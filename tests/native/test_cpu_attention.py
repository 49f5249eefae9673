"""Attention over blocks of keys and values: what it computes, and what its bits depend on."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from mlx_sidecar_native._native import cpu
from tests.support.guarded import guarded

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="pages are guarded by Linux")

Array = NDArray[np.float32]
Blocks = NDArray[Any]  # float32 or float16
BLOCK = cpu.BLOCK_TOKENS


@pytest.fixture(autouse=True)
def same_kernels_afterwards() -> Iterator[None]:
    before = cpu.kernels()
    yield
    cpu.use_kernels(before)


@dataclass(frozen=True)
class Case:
    """The shape of an attention; `position` is that of the first query."""

    tokens: int = 1
    position: int = 0
    key_heads: int = 1
    group: int = 1
    size: int = 64
    window: int = 0
    cap: float = 0.0
    spread: float = 1.0
    seed: int = 0
    dtype: str = "float32"  # of the blocks, and of what keys and values are rounded to

    @property
    def keys(self) -> int:
        return self.position + self.tokens

    @property
    def scale(self) -> float:
        return float(np.float32(self.size**-0.5))

    def first_key(self, token: int) -> int:
        return max(0, self.position + token + 1 - self.window) if self.window else 0


cases = st.builds(
    Case,
    tokens=st.sampled_from([1, 2, 5, 16, 17, 49, 70]),
    position=st.sampled_from([0, 1, 40, 63, 64, 511, 512, 530, 1100]),
    key_heads=st.integers(1, 3),
    group=st.sampled_from([1, 2, 3, 4, 7, 8]),
    size=st.sampled_from([8, 16, 24, 40, 64, 72, 128, 256]),
    window=st.sampled_from([0, 1, 2, 64, 65, 100, 600]),
    cap=st.sampled_from([0.0, 0.0, 3.0, 50.0]),
    spread=st.sampled_from([0.1, 1.0, 20.0]),
    seed=st.integers(0, 2**16),
    dtype=st.sampled_from(["float32", "float16"]),
)
hypothesis_cases = settings(max_examples=40, deadline=None)


@dataclass
class Sequence:
    """Queries [tokens, heads, size], and keys and values [keys, key_heads, size]."""

    queries: Array
    keys: Array
    values: Array
    dtype: str = "float32"

    @classmethod
    def of(cls, case: Case) -> Sequence:
        random = np.random.default_rng(case.seed)
        queries = random.normal(0, case.spread, (case.tokens, case.key_heads * case.group, case.size))
        keys, values = random.normal(size=(2, case.keys, case.key_heads, case.size)).astype(case.dtype)
        return cls(queries.astype(np.float32), keys.astype(np.float32), values.astype(np.float32), case.dtype)

    def blocks(self) -> Blocks:
        """Return all blocks. The places that hold no token are NaN."""
        count, key_heads, size = self.keys.shape
        blocks: Blocks = np.full((-(-count // BLOCK), key_heads, 2 * size * BLOCK), np.nan, dtype=self.dtype)
        for token in range(count):
            cpu.store_keys_values(blocks[token // BLOCK], token % BLOCK, self.keys[token], self.values[token])
        return blocks


def expected(case: Case, sequence: Sequence) -> NDArray[np.float64]:
    keys, values = (x.astype(np.float64).repeat(case.group, axis=1) for x in (sequence.keys, sequence.values))
    out = np.zeros(sequence.queries.shape)
    for token, query in enumerate(sequence.queries.astype(np.float64)):
        seen = slice(case.first_key(token), case.position + token + 1)
        scores = np.einsum("hd,khd->hk", query, keys[seen]) * case.scale
        if case.cap:
            scores = case.cap * np.tanh(scores / case.cap)
        weights = np.exp(scores - scores.max(axis=1, keepdims=True))
        out[token] = np.einsum("hk,khd->hd", weights / weights.sum(axis=1, keepdims=True), values[seen])
    return out


def attend(case: Case, queries: Array, blocks: Blocks, *, parts: int = 0, kernels: str | None = None) -> Array:
    assert cpu.use_kernels(kernels or cpu.kernel_sets()[0])
    out = guarded(np.full_like(queries, 7))
    cpu.attend(
        queries, blocks, out, position=case.position, window=case.window, scale=case.scale, cap=case.cap, parts=parts
    )
    return out


def one_by_one(case: Case, queries: Array, blocks: Blocks, cut: int) -> Array:
    parts = []
    for first in range(0, case.tokens, cut):
        tokens = queries[first : first + cut]
        chunk = replace(case, position=case.position + first, tokens=len(tokens))
        parts.append(attend(chunk, tokens, blocks))
    return np.concatenate(parts)


@pytest.mark.parametrize("kernels", cpu.kernel_sets())
@hypothesis_cases
@given(case=cases)
def test_attention_is_that_of_float64(case: Case, kernels: str) -> None:
    sequence = Sequence.of(case)
    queries, blocks = guarded(sequence.queries, at_start=True), guarded(sequence.blocks())
    out = attend(case, queries, blocks, kernels=kernels)
    # A score's error is of its own size, and the cap's of the cap's.
    tolerance = 3e-6 * max(1.0, case.spread) * case.size**0.5 + 2e-6 * case.cap
    np.testing.assert_allclose(out, expected(case, sequence), rtol=0, atol=tolerance)


@hypothesis_cases
@given(case=cases, cut=st.sampled_from([1, 7, 16, 20]), parts=st.integers(1, 5))
def test_bits_do_not_depend_on_the_chunk_the_threads_or_the_instruction_set(case: Case, cut: int, parts: int) -> None:
    sequence = Sequence.of(case)
    blocks = sequence.blocks()
    whole = attend(case, sequence.queries, blocks)
    assert np.isfinite(whole).all()
    assert one_by_one(case, sequence.queries, blocks, cut).tobytes() == whole.tobytes()
    assert attend(case, sequence.queries, blocks, parts=parts).tobytes() == whole.tobytes()
    for kernels in set(cpu.kernel_sets()) - {"baseline"}:  # which has no FMA here: its own test compiles it with
        assert attend(case, sequence.queries, blocks, kernels=kernels).tobytes() == whole.tobytes()


@pytest.mark.parametrize("garbage", [0.0, 1e30, np.inf, np.nan])
def test_tokens_that_are_not_seen_may_be_anything(garbage: float) -> None:
    case = Case(tokens=5, position=600, key_heads=2, group=3, window=520)
    sequence = Sequence.of(case)
    clean = attend(case, sequence.queries, sequence.blocks())
    keys, values = (np.pad(x, ((0, 9), (0, 0), (0, 0))) for x in (sequence.keys, sequence.values))
    longer = Sequence(sequence.queries, keys, values)
    for x in (longer.keys, longer.values):
        x[case.keys :] = garbage
        x[: case.first_key(0)] = garbage
    assert attend(case, sequence.queries, longer.blocks()).tobytes() == clean.tobytes()
    # Tokens of the same chunk are among those that an earlier one does not see.
    for x in (longer.keys, longer.values):
        x[case.position + 3] = garbage
    assert attend(case, sequence.queries, longer.blocks())[:3].tobytes() == clean[:3].tobytes()


@pytest.mark.parametrize("kernels", cpu.kernel_sets())
@pytest.mark.parametrize("place", [0, 63, 64, 600, 700])
@pytest.mark.parametrize("what", ["keys", "values"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_comes_through(kernels: str, place: int, what: str, bad: float) -> None:
    case = Case(tokens=3, position=700, key_heads=2, group=2, size=16)
    sequence = Sequence.of(case)
    clean = attend(case, sequence.queries, sequence.blocks(), kernels=kernels)
    sequence.queries[...] = abs(sequence.queries)  # so that a score of an infinite key is infinite
    getattr(sequence, what)[place, 1, 3] = bad
    out = attend(case, sequence.queries, sequence.blocks(), kernels=kernels)
    assert np.isfinite(out[:, :2]).all()
    assert np.isfinite(out[:, 2:]).sum() == (0 if what == "keys" else out[:, 2:].size * 15 // 16)
    assert np.isfinite(clean).all()


def test_scores_of_minus_infinity_weigh_nothing() -> None:
    case = Case(tokens=1, position=700, size=8)
    sequence = Sequence.of(case)
    sequence.queries[...] = 1.0
    sequence.keys[:650] = -np.inf
    alone = Case(tokens=1, position=50, size=8)
    rest = Sequence(sequence.queries, sequence.keys[650:], sequence.values[650:])
    out = attend(case, sequence.queries, sequence.blocks())
    np.testing.assert_allclose(out, expected(alone, rest), atol=1e-6)
    sequence.keys[...] = -np.inf
    assert np.isnan(attend(case, sequence.queries, sequence.blocks())).all()


def test_a_token_alone_gets_its_own_value() -> None:
    case = Case(tokens=1, size=24, key_heads=2)
    sequence = Sequence.of(case)
    assert (attend(case, sequence.queries, sequence.blocks()) == sequence.values).all()


@hypothesis_cases
@given(
    key_heads=st.integers(1, 3),
    size=st.sampled_from([8, 24, 64]),
    place=st.integers(0, BLOCK - 1),
    dtype=st.sampled_from(["float32", "float16"]),
)
def test_keys_are_stored_in_columns_and_values_in_rows(key_heads: int, size: int, place: int, dtype: str) -> None:
    case = Case(tokens=1, size=size, key_heads=key_heads, dtype=dtype)
    sequence = Sequence.of(case)
    for kernels in cpu.kernel_sets():
        cpu.use_kernels(kernels)
        block = guarded(np.zeros((key_heads, 2, size * BLOCK), dtype=dtype))
        cpu.store_keys_values(
            block.reshape(key_heads, -1), place, guarded(sequence.keys[0]), guarded(sequence.values[0])
        )
        keys, values = block[:, 0].reshape(key_heads, size, BLOCK), block[:, 1].reshape(key_heads, BLOCK, size)
        assert (keys[:, :, place] == sequence.keys[0]).all()
        assert (values[:, place] == sequence.values[0]).all()
        assert np.count_nonzero(block) == 2 * key_heads * size


_FINITE_HALVES = np.arange(0x7C00, dtype=np.uint16).view(np.float16).astype(np.float32)
_BETWEEN = (_FINITE_HALVES[:-1] + _FINITE_HALVES[1:]) / 2


@pytest.mark.parametrize("kernels", cpu.kernel_sets())
def test_float16_is_the_nearest_and_of_two_the_even_one(kernels: str) -> None:
    edges = np.array([65519.996, 65520.0, 1e30, np.inf, np.nan, 1e-45, 2**-25, 2.0**-25 * 1.001], dtype=np.float32)
    beside = [np.nextafter(_BETWEEN, np.float32(to)) for to in (0, np.inf)]
    numbers = np.concatenate([_FINITE_HALVES, _BETWEEN, *beside, edges])
    both: Array = np.concatenate([numbers, -numbers]).astype(np.float32)
    both = np.pad(both, (0, -len(both) % 8)).reshape(1, -1)
    block = np.zeros((1, 2 * both.size * BLOCK), dtype=np.float16)
    assert cpu.use_kernels(kernels)
    cpu.store_keys_values(block, 5, both, both)
    with np.errstate(over="ignore"):
        wanted = both[0].astype(np.float16)
    keys, values = block.reshape(2, -1)
    for found in (keys.reshape(-1, BLOCK)[:, 5], values.reshape(BLOCK, -1)[5]):
        assert (np.isnan(found) == np.isnan(wanted)).all()
        assert (found.view(np.uint16) == wanted.view(np.uint16))[~np.isnan(wanted)].all()


def test_arrays_that_do_not_fit_together_are_refused() -> None:
    case = Case(tokens=2, position=62, size=16)
    sequence = Sequence.of(case)
    blocks = sequence.blocks()
    with pytest.raises(ValueError, match="tokens have their keys"):
        attend(replace(case, position=63), sequence.queries, blocks)
    with pytest.raises(ValueError, match="multiples of 8"):
        attend(case, np.zeros((2, 1, 12), dtype=np.float32), blocks)
    with pytest.raises(TypeError):
        attend(case, sequence.queries.astype(np.float64), blocks)  # type: ignore[arg-type,unused-ignore]
    with pytest.raises(ValueError, match="float32 or float16"):
        attend(case, sequence.queries, blocks.astype(np.float64))
    with pytest.raises(ValueError, match="no gaps"):
        attend(case, sequence.queries, np.repeat(blocks, 2, axis=2)[:, :, ::2])
