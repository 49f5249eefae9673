"""The prefixes of a model over the store: whatever was put in, evicted and pinned, a prompt is given what was computed
of exactly its own tokens. An entry here is a number that all tokens up to its own have gone into."""

from __future__ import annotations

from array import array
from itertools import accumulate
from typing import Any

import mlx.core as mx
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from mlx_sidecar.engine.cache.prefix_match import LEAST_TOKENS, CacheSpec, SpanShape
from mlx_sidecar.engine.cache.prefixes import Prefixes
from mlx_sidecar.engine.cache.segment import BLOCK, Segment, Span
from mlx_sidecar.engine.cache.store import Store

WINDOW = 40
TOKEN_BYTES = 2 * 4  # two spans of one number
SHAPE = SpanShape(1, 1, 1, "mlx.core.float32")
PROMPTS = st.lists(st.sampled_from([0, 0, 0, 1]), min_size=1, max_size=6).flatmap(
    lambda runs: st.integers(0, BLOCK - 1).map(lambda more: [run + 1 for run in runs for _ in range(50)] + [9] * more)
)


def folded(tokens: array[int]) -> list[float]:
    """For each token a number that it and all before it have gone into, exact in float32."""
    return [float(value) for value in accumulate(tokens, lambda before, token: (31 * before + token) % 65521)]


def segment(tokens: array[int], start: int, stop: int, *, checkpoints: bool = False) -> Segment:
    """Return the segments that a model with a full layer and one with a window would leave at the end of a pass."""
    entries = folded(tokens)
    first = max(start, stop - WINDOW)
    spans = tuple(Span(at, mx.array(entries[at:stop]).reshape(1, 1, -1, 1)) for at in (start, first))
    mx.eval([span.data for span in spans])
    return Segment(start, stop, spans, (mx.array(entries[stop - 1]),) if checkpoints else ())


class Machine(RuleBasedStateMachine):
    """Rows come, begin with what is there, compute the rest, and leave it; now and then room is needed elsewhere."""

    @initialize(checkpoints=st.booleans(), room=st.integers(200, 1500))
    def begin(self, checkpoints: bool, room: int) -> None:
        self.checkpoints = checkpoints
        self.store = Store(room * TOKEN_BYTES)
        spec = CacheSpec(
            (None, WINDOW), checkpoints, (SHAPE, SHAPE), (((), "mlx.core.float32"),) if checkpoints else ()
        )
        self.models = [Prefixes(self.store, str(n), spec) for n in range(2)]

    @rule(prompt=PROMPTS, model=st.integers(0, 1), stops=st.lists(st.integers(1, 6), max_size=3))
    def compute(self, prompt: list[int], model: int, stops: list[int]) -> None:
        prefixes, tokens = self.models[model], array("i", prompt)
        start = self.check(prefixes, tokens) // BLOCK * BLOCK
        ends = {stop * BLOCK for stop in stops if start < stop * BLOCK < len(tokens)} | {len(tokens)}
        for stop in sorted(ends):
            prefixes.put(tokens, [segment(tokens, start, stop, checkpoints=self.checkpoints)])
            start = stop // BLOCK * BLOCK

    @rule(prompt=PROMPTS, model=st.integers(0, 1))
    def ask(self, prompt: list[int], model: int) -> None:
        self.check(self.models[model], array("i", prompt))

    @rule(nbytes=st.integers(0, 4000))
    def need_room(self, nbytes: int) -> None:
        releasable = self.store.used_bytes - self.store.pinned_bytes
        assert self.store.release(nbytes) >= min(nbytes, releasable)

    @rule(prompt=PROMPTS, model=st.integers(0, 1))
    def pin(self, prompt: list[int], model: int) -> None:
        self.models[model].pin(array("i", prompt))

    @rule(model=st.integers(0, 1))
    def clear(self, model: int) -> None:
        self.models[model].clear()
        assert not self.models[model].find(array("i", [1] * 100)).length

    def check(self, prefixes: Prefixes, tokens: array[int]) -> int:
        match = prefixes.find(tokens)
        assert match.length == 0 or LEAST_TOKENS <= match.length < len(tokens)
        expected = folded(tokens)[: match.length]
        for span, window in enumerate(prefixes.spec.window):
            first = 0 if window is None else max(0, match.length - window)
            parts: list[Any] = [np.asarray(part) for _, part in match.entries(span, first)]
            assert [value for part in parts for value in part.ravel().tolist()] == expected[first:]
        if self.checkpoints and match.length:
            assert match.checkpoints[0] is not None
            assert match.checkpoints[0].item() == expected[-1]
        assert prefixes.reach(tokens) == match.length
        return match.length

    @invariant()
    def keeps_to_its_bounds(self) -> None:
        if hasattr(self, "store"):
            assert 0 <= self.store.pinned_bytes <= self.store.used_bytes <= self.store.limit_bytes

    def teardown(self) -> None:
        if hasattr(self, "models"):
            for prefixes in self.models:
                prefixes.close()
            assert (self.store.used_bytes, self.store.pinned_bytes, self.store.index.nodes) == (0, 0, 0)


TestPrefixes = Machine.TestCase
TestPrefixes.settings = settings(max_examples=60, stateful_step_count=30)


def prefixes_of(limit_bytes: int = 1 << 20) -> Prefixes:
    return Prefixes(Store(limit_bytes), "model", CacheSpec((None, WINDOW), shapes=(SHAPE, SHAPE)))


@given(st.integers(1, 200), st.integers(1, 199))
def test_the_nearest_known_prompt_is_told_from_where_they_part(length: int, at: int) -> None:
    prefixes = prefixes_of()
    known = array("i", range(length))
    prefixes.put(known, [segment(known, 0, length)])
    asked = known[:at] + array("i", [999]) + known[at + 1 :]
    nearest = prefixes.nearest(asked)
    assert nearest.common == min(at, length)
    assert nearest.tokens == list(known[nearest.start : nearest.start + len(nearest.tokens)])
    assert nearest.start + len(nearest.tokens) == min(length, nearest.common + 64)


def test_two_conversations_that_begin_alike_share_the_beginning() -> None:
    prefixes = prefixes_of()
    trunk = array("i", range(256))
    for leaf in range(10):
        tokens = trunk + array("i", [leaf] * 64)
        start = prefixes.lacks(tokens, len(tokens))
        prefixes.put(tokens, [segment(tokens, start, len(tokens))])
    full, windowed = (256 + 10 * 64) * 4, 10 * WINDOW * 4
    assert prefixes.store.used_bytes == full + windowed


def test_a_trunk_outlives_its_leaves() -> None:
    prefixes = prefixes_of(limit_bytes=1000 * TOKEN_BYTES)
    trunk = array("i", range(256))
    prefixes.put(trunk, [segment(trunk, 0, 256)])
    for leaf in range(50):
        tokens = trunk + array("i", [1000 + leaf] * 64)
        prefixes.put(tokens, [segment(tokens, 256, 320)])
    assert prefixes.find(trunk + array("i", [5])).length == 256


def test_what_a_pin_keeps_is_there_whatever_comes_until_it_is_cleared() -> None:
    prefixes = prefixes_of(limit_bytes=400 * TOKEN_BYTES)
    pinned = array("i", range(128))
    prefixes.put(pinned, [segment(pinned, 0, 128)])
    assert prefixes.pin(pinned) == prefixes.pin(pinned) == 128
    for other in range(20):
        tokens = array("i", [1000 + other] * 200)
        prefixes.put(tokens, [segment(tokens, 0, 200)])
    assert prefixes.find(pinned + array("i", [5])).length == 128
    assert prefixes.store.release(1 << 20) > 0
    assert prefixes.find(pinned + array("i", [5])).length == 128
    prefixes.clear()
    assert prefixes.find(pinned + array("i", [5])).length == 0
