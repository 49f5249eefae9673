"""Warm answers are cold answers: whatever mix of prompts comes at once, whatever was cached, evicted and read again."""

from __future__ import annotations

import random
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlx_sidecar.link.cache_messages import CacheFigures, QueryCache
from tests.support.engine_process import EngineClient, ready_engine

KINDS = ["qwen3", "sliding", "mamba", "lfm2", "qwen3_5"]
STREAMS = 32
BLOCK = 64
TRUNKS = [[random.Random(seed).randrange(300) for _ in range(6 * BLOCK)] for seed in range(2)]

# A trunk, where it is left (at the end of a block, or beside it), how the prompt goes on, and how long the answer is.
cuts = st.builds(lambda block, by: max(1, BLOCK * block + by), st.integers(0, 6), st.sampled_from([-1, 0, 0, 0, 1, 20]))
asked = st.tuples(st.integers(0, 1), cuts, st.integers(0, 3), st.integers(1, 10))


class Pair:
    """An engine whose cache is too small for what is asked of it, in memory and on disk, and one without a cache."""

    def __init__(self, warm: EngineClient, cold: EngineClient) -> None:
        self.warm = warm
        self.answer = cache(lambda kind, prompt, limit: cold.generate(kind, list(prompt), limit))

    def evicted(self) -> int:
        op = self.warm.number()
        self.warm.send(QueryCache(op))
        return self.warm.wait(CacheFigures, lambda figures: figures.op == op).counters["evicted_blocks"]


@pytest.fixture(scope="module")
def pair(random_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    limits = {"cache_limit_bytes": 500_000, "cache_disk_limit_bytes": 2_000_000}
    cache_dir = str(tmp_path_factory.mktemp("cache"))
    with (
        ready_engine(numerics="exact", cache_dir=cache_dir, **limits) as warm,
        ready_engine(numerics="exact", cache_limit_bytes=0) as cold,
    ):
        for kind in KINDS:
            for engine in (warm, cold):
                engine.load(kind, str(random_models / kind))
        yield Pair(warm, cold)


@settings(max_examples=25)
@given(kind=st.sampled_from(KINDS), requests=st.lists(asked, min_size=1, max_size=STREAMS))
def test_any_prompts_at_once_are_answered_as_without_a_cache(
    pair: Pair, kind: str, requests: list[tuple[int, int, int, int]]
) -> None:
    prompts = [
        (tuple(TRUNKS[trunk][:cut]) + tuple(random.Random(f"{trunk} {more}").choices(range(300), k=15 * more)), limit)
        for trunk, cut, more, limit in requests
    ]
    running = [pair.warm.submit(kind, list(prompt), limit) for prompt, limit in prompts]
    answers = [pair.warm.tokens(sequence) for sequence in running]
    assert answers == [pair.answer(kind, prompt, limit) for prompt, limit in prompts]


def test_32_streams_of_one_beginning_are_answered_as_without_a_cache(pair: Pair) -> None:
    for kind in KINDS:
        prompts = [(*TRUNKS[0], *range(n, n + 5)) for n in range(STREAMS)]
        running = [pair.warm.submit(kind, list(prompt), 6) for prompt in prompts]
        answers = [pair.warm.tokens(sequence) for sequence in running]
        assert answers == [pair.answer(kind, prompt, 6) for prompt in prompts]
    assert pair.evicted() > 0
