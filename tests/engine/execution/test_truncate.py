"""Rows that bring several tokens of which some are then taken back have the logits of rows that came there one by one.

The reference BLAS of mlx's wheel is in force here: no element of a product depends on the other rows.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import mlx.core as mx
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mlx_sidecar.engine.cache.prefixes import Prefixes
from mlx_sidecar.engine.cache.store import Store
from mlx_sidecar.engine.execution.flat.attention import attend_run
from mlx_sidecar.engine.execution.forward import NEXT_TOKEN, NOTHING_WANTED, Forward, Logits, NotTruncatable, Part
from mlx_sidecar.engine.execution.merged_forward import MergedForward
from tests.engine.forwards import FLAT, LENGTH, MERGED, PROMPTS, Subject, close, load, logits_alone, run, subject

RECURRENT = ["mamba", "lfm2", "qwen3_5"]
# Less than a block: what a forward puts aside at the ends of blocks is not looked at here.
MERGED_LENGTH = 100
ROWS = 4


class Draft(NamedTuple):
    """A row's tokens in a step: ``right`` tokens of its prompt, and ``wrong`` ones that are taken back."""

    right: int
    wrong: int


# Most rows bring equally many, because those may attend in one call.
drafts = st.one_of(
    st.sampled_from([Draft(1, 0), Draft(1, 4), Draft(3, 2), Draft(5, 0), Draft(0, 5)]),
    st.builds(Draft, st.integers(0, 8), st.integers(0, 8)),
    st.sampled_from([Draft(20, 0), Draft(120, 0)]),
)
Steps = st.lists(
    st.one_of(st.lists(drafts, min_size=ROWS, max_size=ROWS), st.builds(lambda draft: [draft] * ROWS, drafts)),
    min_size=3,
    max_size=25,
)


@dataclass
class Verifier:
    """Lets rows of one forward bring right and wrong tokens, and hands out the logits after the right ones."""

    forward: Forward
    length: int
    held: dict[int, int] = field(default_factory=dict)

    def step(self, drafts: dict[int, Draft]) -> Iterator[tuple[int, int, mx.array]]:
        """Yields (prompt, position, logits)."""
        parts, tokens, rights = [], [], []
        for row, (right, wrong) in drafts.items():
            held, prompt = self.held[row], PROMPTS[row % 2]
            right = min(right, self.length - held)
            if count := right + wrong:
                parts.append(Part(row, count, Logits(count)))
                tokens += prompt[held : held + right] + [(token + 1) % 300 for token in prompt[:wrong]]
                rights.append(right)
        if not parts:
            return
        logits, state = run(self.forward, parts, tokens)
        mx.async_eval(logits, state)
        assert logits.shape[0] == len(tokens)
        start = 0
        for part, right in zip(parts, rights, strict=True):
            if right < part.tokens:
                self.forward.truncate(part.row, self.held[part.row] + right)
            for at in range(right):
                yield part.row % 2, self.held[part.row] + at, logits[start + at]
            start += part.tokens
            self.held[part.row] += right

    def play(self, steps: list[list[Draft]]) -> Iterator[tuple[int, int, mx.array]]:
        for row in range(ROWS):
            self.forward.open(row, self.length if row % 3 else 20)
            self.held[row] = 0
            # Rows of different lengths, and each of them holds something.
            yield from self.step({row: Draft(1 + 3 * row, 0)})
        for step in steps:
            yield from self.step(dict(enumerate(step)))
        for row in range(ROWS):
            self.forward.close(row)


@pytest.fixture(scope="module", params=FLAT)
def flat(random_models: Path, request: pytest.FixtureRequest) -> Subject:
    subj = subject(random_models, request.param, LENGTH)
    subj.alone = [logits_alone(subj.forward, prompt) for prompt in PROMPTS]
    mx.eval(subj.alone)
    return subj


@pytest.fixture(scope="module", params=["qwen3 merged", "qwen3 row by row", "llama4"])
def own_caches(random_models: Path, request: pytest.FixtureRequest) -> Subject:
    kind, _, how = request.param.partition(" ")
    subj = subject(random_models, kind, MERGED_LENGTH)
    if how:
        subj.forward = MergedForward(load(random_models, kind), batchable=how == "merged")
    return subj


@settings(max_examples=40)
@given(steps=Steps)
@example(steps=[[Draft(3, 2)] * ROWS] * 110)  # beyond the largest slot of a window
def test_flat_rows_that_are_taken_back_have_the_bits_of_rows_that_never_went_there(
    flat: Subject, steps: list[list[Draft]]
) -> None:
    for prompt, position, logits in Verifier(flat.forward, LENGTH).play(steps):
        assert mx.array_equal(logits, flat.alone[prompt][position])
    assert flat.forward.reclaimable_bytes == 0


@settings(max_examples=20)
@given(steps=Steps)
def test_rows_of_mlx_lms_own_caches_that_are_taken_back_have_the_logits_of_rows_that_never_went_there(
    own_caches: Subject, steps: list[list[Draft]]
) -> None:
    for prompt, position, logits in Verifier(own_caches.forward, MERGED_LENGTH).play(steps):
        assert close(logits, own_caches.own[prompt][position])


@pytest.mark.parametrize("kind", RECURRENT)
def test_a_recurrent_state_is_not_taken_back_and_the_row_goes_on(random_models: Path, kind: str) -> None:
    subj = subject(random_models, kind, 12)
    subj.forward.open(0, 12)
    logits, _ = run(subj.forward, [Part(0, 5, Logits(5))], PROMPTS[0][:5])
    assert all(close(*pair) for pair in zip(logits, subj.own[0], strict=False))
    with pytest.raises(NotTruncatable, match="ArraysCache"):
        subj.forward.truncate(0, 4)
    logits, _ = run(subj.forward, [Part(0, 7, Logits(7))], PROMPTS[0][5:12])
    assert all(close(*pair) for pair in zip(logits, subj.own[0][5:], strict=True))


def test_a_window_of_mlx_lms_own_is_not_taken_back(random_models: Path) -> None:
    forward = MergedForward(load(random_models, "sliding"), batchable=True)
    assert "RotatingKVCache" in forward.untruncatable


@pytest.mark.parametrize("last", [2, 40, 100, 150])
@pytest.mark.parametrize("kind", [*FLAT, *MERGED])
def test_logits_of_the_last_tokens_are_those_of_each_whatever_is_put_aside_on_the_way(
    random_models: Path, kind: str, last: int
) -> None:
    subj = subject(random_models, kind, 150)
    subj.forward.captured = True
    subj.forward.open(0, 150)
    subj.forward.checkpoint_at(0, 128)
    logits, _ = run(subj.forward, [Part(0, 150, Logits(last))], PROMPTS[0][:150])
    assert logits.shape[0] == last
    assert all(close(*pair) for pair in zip(logits, subj.own[0][150 - last :], strict=True))


@pytest.mark.parametrize("kind", ["llama", "native llama"])
def test_without_a_window_tokens_of_earlier_parts_are_taken_back(random_models: Path, kind: str) -> None:
    subj = subject(random_models, kind, 100)
    subj.forward.open(0, 100)
    for start in range(0, 90, 30):
        run(subj.forward, [Part(0, 30, NOTHING_WANTED)], PROMPTS[1][start : start + 30])
    with pytest.raises(NotTruncatable, match="90 tokens cannot be taken back to 91"):
        subj.forward.truncate(0, 91)
    subj.forward.truncate(0, 0)
    logits, _ = run(subj.forward, [Part(0, 100, Logits(100))], PROMPTS[0][:100])
    assert all(close(*pair) for pair in zip(logits, subj.own[0], strict=True))


@pytest.mark.parametrize("kind", ["sliding", "native sliding"])
def test_where_there_is_a_window_tokens_of_an_earlier_part_are_not_taken_back(random_models: Path, kind: str) -> None:
    forward = subject(random_models, kind, 1).forward
    forward.open(0, 20)
    run(forward, [Part(0, 8, NEXT_TOKEN)], PROMPTS[0][:8])
    run(forward, [Part(0, 2, NEXT_TOKEN)], PROMPTS[0][8:10])
    for length in (7, 11):
        with pytest.raises(NotTruncatable, match=f"10 tokens cannot be taken back to {length}"):
            forward.truncate(0, length)
    forward.truncate(0, 8)


def test_a_window_that_has_spilled_is_not_taken_back_and_nothing_of_the_row_is(random_models: Path) -> None:
    subj = subject(random_models, "sliding", LENGTH)
    subj.forward.open(0, LENGTH)
    run(subj.forward, [Part(0, LENGTH - 1, NOTHING_WANTED)], PROMPTS[0][: LENGTH - 1])
    with pytest.raises(NotTruncatable):
        subj.forward.truncate(0, LENGTH - 2)
    logits, _ = run(subj.forward, [Part(0, 1, NEXT_TOKEN)], PROMPTS[0][LENGTH - 1 :])
    assert close(logits[0], subj.own[0][LENGTH - 1])


@pytest.mark.parametrize("kind", FLAT)
def test_what_was_taken_back_does_not_reach_the_prefix_cache(random_models: Path, kind: str) -> None:
    subj = subject(random_models, kind, 100)
    cache = Prefixes(Store(1 << 30), "model", subj.forward.spec)
    subj.forward.open(0, 100)
    run(subj.forward, [Part(0, 90, NOTHING_WANTED)], PROMPTS[0][:90])
    run(subj.forward, [Part(0, 9, NEXT_TOKEN)], [*PROMPTS[0][90:95], 1, 2, 3, 4])
    subj.forward.truncate(0, 95)
    tokens = PROMPTS[0][:95]
    cache.put(array("i", tokens), subj.forward.capture(0, 0, 95))
    match = cache.find(array("i", PROMPTS[0][:100]))
    assert match.length == 95
    subj.forward.open(1, 100, match)
    logits, _ = run(subj.forward, [Part(1, 5, Logits(5))], PROMPTS[0][95:100])
    assert all(close(*pair) for pair in zip(logits, subj.own[0][95:], strict=True))


@pytest.mark.parametrize("rows", [2, 8])
@pytest.mark.parametrize("kind", FLAT)
def test_rows_of_a_pool_that_bring_equally_few_tokens_attend_in_one_call(
    random_models: Path, monkeypatch: pytest.MonkeyPatch, kind: str, rows: int
) -> None:
    calls: list[int] = []

    def counted(step: Any, run: Any, queries: mx.array, *given: Any) -> mx.array:
        calls.append(queries.shape[0])
        return attend_run(step, run, queries, *given)

    monkeypatch.setattr("mlx_sidecar.engine.execution.flat.cache.attend_run", counted)
    subj = subject(random_models, kind, 1)
    for row in range(rows):
        subj.forward.open(row, 40)
        run(subj.forward, [Part(row, 20 + row, NOTHING_WANTED)], PROMPTS[0][: 20 + row])
    calls.clear()
    run(subj.forward, [Part(row, 1 + 4, Logits(1 + 4)) for row in range(rows)], [5] * 5 * rows)
    layers = 4 if kind == "sliding" else 2
    assert calls == [5 * rows] * layers
