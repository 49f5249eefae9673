"""Both forwards against mlx-lm's own caches, and the flat one against itself alone, bit for bit.

The reference BLAS of mlx's wheel is in force here: no element of a product depends on the other rows.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlx_sidecar.engine.cache.prefixes import Prefixes
from mlx_sidecar.engine.cache.store import Store
from mlx_sidecar.engine.execution import mlxlm
from mlx_sidecar.engine.execution.flat.forward import FlatForward
from mlx_sidecar.engine.execution.forward import NEXT_TOKEN, NOTHING_WANTED, Forward, Part
from mlx_sidecar.engine.execution.merged_forward import MergedForward
from mlx_sidecar.engine.execution.probe import probe
from mlx_sidecar.engine.execution.trial import distance
from tests.engine.forwards import (
    FLAT,
    LENGTH,
    MERGED,
    NATIVE,
    NATIVE_IN_HALVES,
    PROMPTS,
    Subject,
    close,
    load,
    logits_alone,
    run,
    subject,
)

NEXT_OF_BOTH = [Part(row, 1, NEXT_TOKEN) for row in (0, 1)]

Actions = st.lists(
    st.one_of(
        st.tuples(st.just("open"), st.integers(0, 1)),
        st.tuples(st.just("close"), st.booleans()),
        st.tuples(st.just("step"), st.lists(st.sampled_from([0, 1, 1, 1, 3, 20, 120, 300]), min_size=4, max_size=4)),
    ),
    min_size=5,
    max_size=25,
)


@pytest.fixture(scope="module", params=[*FLAT, *NATIVE, NATIVE_IN_HALVES])
def flat(random_models: Path, request: pytest.FixtureRequest) -> Subject:
    subj = subject(random_models, request.param, LENGTH)
    subj.alone = [logits_alone(subj.forward, prompt) for prompt in PROMPTS]
    mx.eval(subj.alone)
    return subj


@pytest.fixture(scope="module", params=MERGED)
def merged(random_models: Path, request: pytest.FixtureRequest) -> Subject:
    return subject(random_models, request.param, 64)


@dataclass
class Driver:
    """Runs rows through a forward, in the way a batch does, and hands out their logits. ``cache``: what rows leave and
    others begin with."""

    forward: Forward
    length: int
    cache: Prefixes
    prompts: dict[int, int] = field(default_factory=dict)  # by row
    held: dict[int, int] = field(default_factory=dict)
    rows: int = 0

    def open(self, prompt: int) -> int:
        self.rows += 1
        self.prompts[self.rows] = prompt
        match = self.cache.find(array("i", PROMPTS[prompt][: self.length]))
        self.forward.open(self.rows, self.length, match)
        self.held[self.rows] = match.length
        assert match.length < self.length
        return self.rows

    def close(self, row: int, keep: bool) -> None:
        tokens = array("i", PROMPTS[self.prompts.pop(row)][: self.held.pop(row)])
        if keep and not self.forward.uncacheable and (start := self.cache.lacks(tokens, len(tokens))) < len(tokens):
            self.cache.put(tokens, self.forward.capture(row, start, len(tokens)))
        self.forward.close(row)

    def step(self, counts: dict[int, int]) -> Iterator[tuple[int, int, mx.array]]:
        """Yields (prompt, position, logits) of the parts that sample: every other one with several tokens does not."""
        parts, tokens = [], []
        for row, count in counts.items():
            count = min(count, self.length - self.held[row])
            if count:
                parts.append(Part(row, count, NEXT_TOKEN if count == 1 or row % 2 else NOTHING_WANTED))
                tokens += PROMPTS[self.prompts[row]][self.held[row] : self.held[row] + count]
                self.held[row] += count
        if not parts:
            return
        logits, state = run(self.forward, parts, tokens)
        mx.async_eval(logits, state)
        sampled = [part for part in parts if part.want.last]
        assert logits.shape[0] == len(sampled)
        for part, row_logits in zip(sampled, logits, strict=True):
            yield self.prompts[part.row], self.held[part.row] - 1, row_logits

    def play(self, actions: list[tuple[str, Any]]) -> Iterator[tuple[int, int, mx.array]]:
        for action, argument in actions:
            if action == "open" and len(self.held) < 4:
                self.open(argument)
            elif action == "close" and self.held:
                self.close(min(self.held), argument)
            elif action == "step":
                yield from self.step(dict(zip(reversed(self.held), argument, strict=False)))
        for row in list(self.held):
            self.close(row, keep=False)
        self.forward.release()


def driver_of(subject: Subject, length: int) -> Driver:
    return Driver(subject.forward, length, Prefixes(Store(1 << 30), "model", subject.forward.spec))


@settings(max_examples=25)
@given(actions=Actions)
def test_logits_of_a_row_are_the_same_bits_whatever_runs_beside_it(flat: Subject, actions: list[Any]) -> None:
    for prompt, position, logits in driver_of(flat, LENGTH).play(actions):
        assert mx.array_equal(logits, flat.alone[prompt][position])
    assert flat.forward.reclaimable_bytes == 0


def test_logits_of_a_row_are_those_of_the_models_own_caches(flat: Subject) -> None:
    for alone, own in zip(flat.alone, flat.own, strict=True):
        for position in range(LENGTH):
            assert mx.argmax(alone[position]).item() == mx.argmax(own[position]).item()
            assert distance(alone[position], own[position]) < flat.near


@settings(max_examples=12)
@given(actions=Actions)
def test_merged_rows_have_the_logits_of_the_models_own_caches(merged: Subject, actions: list[Any]) -> None:
    for prompt, position, logits in driver_of(merged, 64).play(actions):
        assert close(logits, merged.own[prompt][position])
    assert merged.forward.reclaimable_bytes == 0


def test_a_step_can_be_built_on_tokens_that_are_not_computed_yet(flat: Subject) -> None:
    def decode(*, lazily: bool) -> list[mx.array]:
        for row in (0, 1):
            flat.forward.open(row, 9)
        prompts = PROMPTS[0][:9] + PROMPTS[1][:5]
        logits, state = run(flat.forward, [Part(0, 9, NEXT_TOKEN), Part(1, 5, NEXT_TOKEN)], prompts)
        steps = []
        for _ in range(6):
            steps.append(mx.argmax(logits, axis=-1))
            if not lazily:
                mx.eval(steps, state)
            logits, state = run(flat.forward, NEXT_OF_BOTH, steps[-1])
        for row in (0, 1):
            flat.forward.close(row)
        return steps

    for lazy, evaluated in zip(decode(lazily=True), decode(lazily=False), strict=True):
        assert mx.array_equal(lazy, evaluated)


def test_rows_may_lie_in_another_order_in_layers_with_a_window(flat: Subject) -> None:
    # The first is given the larger room where all tokens are stored; where a window is, both have the same.
    for row, expected in ((0, 400), (1, 260)):
        flat.forward.open(row, expected)
        run(flat.forward, [Part(row, 40, NOTHING_WANTED)], PROMPTS[row][:40])
    logits, _ = run(flat.forward, NEXT_OF_BOTH, [PROMPTS[0][40], PROMPTS[1][40]])
    for row in (0, 1):
        assert mx.array_equal(logits[row], flat.alone[row][40])
        flat.forward.close(row)


def test_a_part_of_which_nothing_is_wanted_gives_no_logits_and_is_computed_with_the_state(flat: Subject) -> None:
    flat.forward.open(0, LENGTH)
    logits, state = run(flat.forward, [Part(0, 20, NOTHING_WANTED)], PROMPTS[0][:20])
    assert logits.shape == (0, 300)
    assert state or flat.forward.computes_apart
    mx.eval(logits, state)
    last, _ = run(flat.forward, [Part(0, 1, NEXT_TOKEN)], PROMPTS[0][20:21])
    assert mx.array_equal(last[0], flat.alone[0][20])
    flat.forward.close(0)


def test_what_a_row_leaves_is_found_by_all_who_start_the_same_until_it_is_forgotten(flat: Subject) -> None:
    driver = driver_of(flat, LENGTH)
    row = driver.open(0)
    list(driver.step({row: 200}))
    driver.close(row, keep=True)
    rows = [driver.open(0), driver.open(0)]
    assert [driver.held[row] for row in rows] == [200, 200]
    for prompt, position, logits in driver.step(dict.fromkeys(rows, 1)):
        assert mx.array_equal(logits, flat.alone[prompt][position])
    driver.cache.clear()
    rows.append(driver.open(0))
    assert driver.held[rows[-1]] == 0
    for row in rows:
        driver.close(row, keep=False)


def test_a_row_begins_with_cached_tokens_in_the_only_slot_of_a_pool_that_another_had_filled(flat: Subject) -> None:
    forward, cache = flat.forward, driver_of(flat, LENGTH).cache
    tokens = array("i", PROMPTS[0][:64])
    forward.open(0, 63)
    run(forward, [Part(0, 64, NOTHING_WANTED)], PROMPTS[0][:64])
    cache.put(tokens, forward.capture(0, 0, 64))
    forward.open(1, LENGTH)
    run(forward, [Part(1, 2, NOTHING_WANTED)], PROMPTS[1][:2])
    forward.close(0)  # no step follows in which its pool would go
    forward.open(2, 63, cache.find(tokens))
    logits, _ = run(forward, [Part(2, 1, NEXT_TOKEN)], PROMPTS[0][63:64])
    assert mx.array_equal(logits[0], flat.alone[0][63])
    for row in (1, 2):
        forward.close(row)


@pytest.fixture
def llama(random_models: Path) -> FlatForward:
    forward = probe("llama", load(random_models, "llama")).forward
    assert isinstance(forward, FlatForward)
    return forward


def test_a_step_writes_into_the_pools_in_place(llama: FlatForward) -> None:
    for row in range(3):
        llama.open(row, 3)
    parts = [Part(row, 1, NEXT_TOKEN) for row in range(3)]
    seen = []
    for _ in range(4):
        logits, state = run(llama, parts, [1, 2, 3])
        mx.eval(logits, state)
        seen.append([np.asarray(array).ctypes.data for array in state])
    assert seen[1:] == seen[:1] * 3


def test_a_row_does_not_see_what_the_one_before_it_left_in_its_slot(llama: FlatForward) -> None:
    long, prompt = PROMPTS
    for row, tokens in ((0, long), (1, long)):
        llama.open(row, 100)
        logits, pools = run(llama, [Part(row, 100, NEXT_TOKEN)], tokens[:100])
        mx.eval(logits, pools)
    for pool in pools:
        pool[1, :, :100] = mx.nan
    llama.close(1)
    llama.open(2, 5)
    run(llama, [Part(2, 5, NEXT_TOKEN)], prompt[:5])
    logits, _ = run(llama, [Part(0, 1, NEXT_TOKEN), Part(2, 1, NEXT_TOKEN)], [1, 2])
    assert not mx.any(mx.isnan(logits)).item()


def test_when_the_last_row_goes_its_memory_goes_with_it(random_models: Path) -> None:
    for kind in ("sliding", "lfm2"):
        forward = probe(kind, load(random_models, kind)).forward
        mx.synchronize()
        before = mx.get_active_memory()
        for row in range(3):
            forward.open(row, LENGTH)
            mx.eval(run(forward, [Part(row, 300, NEXT_TOKEN)], PROMPTS[0][:300]))
        mx.eval(run(forward, [Part(row, 1, NEXT_TOKEN) for row in range(2)], [1, 2]))
        mx.eval(run(forward, [Part(2, 300, NOTHING_WANTED)], PROMPTS[0][:300]))
        for row in range(3):
            forward.close(row)
        mx.synchronize()
        assert mx.get_active_memory() <= before + 4096  # an array of numbers here and there


CONFIG = {
    "hidden_size": 64,
    "num_hidden_layers": 4,
    "intermediate_size": 128,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "rms_norm_eps": 1e-6,
    "vocab_size": 300,
    "sliding_window": 32,
    "sliding_window_pattern": 2,
}
ARCHITECTURES: dict[str, tuple[dict[str, Any], type]] = {
    "gemma3_text": ({}, FlatForward),
    "cohere2": ({"layer_norm_eps": 1e-5}, FlatForward),
    "gpt_oss": ({"num_local_experts": 2, "num_experts_per_tok": 1}, FlatForward),  # attention sinks
    "mixtral": ({"num_local_experts": 2, "num_experts_per_tok": 1}, FlatForward),
    "gemma2": ({}, MergedForward),  # does arithmetic on masks
}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_models_that_mind_their_own_masks_run_merged_the_others_flat(name: str) -> None:
    more, kind = ARCHITECTURES[name]
    config = {**CONFIG, "model_type": name, **more}
    model_class, arguments = mlxlm.get_classes(config)
    mx.random.seed(3)
    model = model_class(arguments.from_dict(config))
    own = [model(mx.array([prompt[:100]]), cache=mlxlm.make_prompt_cache(model))[0] for prompt in PROMPTS]
    forward = probe(name, model).forward
    assert isinstance(forward, kind)
    driver = driver_of(Subject(forward, own), 100)
    rows = [driver.open(0), driver.open(1)]
    for counts in ([50, 3], [1, 60], [1, 1], [1, 1], [20, 1]):
        for prompt, position, logits in driver.step(dict(zip(rows, counts, strict=True))):
            assert close(logits, own[prompt][position])


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("qwen3", "flat"), ("mamba", "merged"), ("llama4", "row_by_row")],
)
def test_a_forward_is_chosen_by_what_the_model_can_do(random_models: Path, kind: str, expected: str) -> None:
    assert probe(kind, load(random_models, kind)).forward.name == expected


def test_a_forward_that_fails_its_trial_leaves_the_model_as_it_was(
    random_models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load(random_models, "qwen3")
    embedding = type(model.model.embed_tokens)
    monkeypatch.setattr(FlatForward, "run", MergedForward.run)  # which raises AttributeError
    forward = probe("qwen3", model).forward
    assert isinstance(forward, MergedForward)
    forward.restore()
    assert type(model.model.embed_tokens) is embedding


def test_a_flat_models_sequences_are_charged_for_their_rooms(random_models: Path) -> None:
    cost = probe("qwen3", load(random_models, "qwen3")).cost
    token_bytes = 2 * 2 * 2 * 16 * 4  # layers, keys and values, heads, head size, float32
    assert cost.bytes_for(129) == cost.bytes_for(256) == 256 * token_bytes
    assert cost.bytes_for(257) == 384 * token_bytes
