"""The snapshot of the live page, of numbers alone, and the requests that are kept for it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlx_sidecar_client.protocol.cache import CacheStatsResult
from mlx_sidecar_client.protocol.stats import StatsResult
from mlx_sidecar_gateway.core.records import Record
from mlx_sidecar_gateway.page.live import MOST_RUNNING, Sample, first_token, own, shared, tokens_a_second
from mlx_sidecar_gateway.page.recent import LAST, Recent


def record(number: int, **members: Any) -> Record:
    made = Record(str(number), "POST", "/v1/chat/completions", came_s=float(number))
    for name, value in members.items():
        setattr(made, name, value)
    return made


def stats_of(tokens: int, instance: str = "one") -> StatsResult:
    counts: Mapping[str, Any] = {"completion_tokens": tokens}
    return StatsResult.model_validate(
        {
            "server": {"name": "mlx-sidecar", "version": "0"},
            "instance": instance,
            "uptime_s": 1.0,
            "engine": {"state": "ready", "restarts": 3},
            "health": {"status": "ok", "ready": True, "restarts": 3},
            "queue": {"waiting": 2, "running": 1},
            "memory": {"limit_bytes": 100, "models_bytes": 40},
            "counters": counts,
            "gauges": {"kept_bytes": 20.0, "free_bytes": 40.0},
            "histograms": {},
        }
    )


@given(st.lists(st.floats(0, 1e3), min_size=1))
def test_a_percentile_is_one_of_the_times_and_has_its_share_at_or_below_it(seconds: list[float]) -> None:
    told = first_token(seconds)
    assert told.count == len(seconds)
    for value, part in ((told.p50_s, 0.5), (told.p95_s, 0.95)):
        assert value is not None
        assert value in seconds
        assert sum(other <= value for other in seconds) >= part * len(seconds)
        assert sum(other < value for other in seconds) < part * len(seconds)


@given(st.lists(st.tuples(st.floats(0.01, 10), st.integers(0, 1000)), min_size=2, max_size=8))
def test_the_rate_of_tokens_is_that_between_the_first_and_the_last_sample(steps: list[tuple[float, int]]) -> None:
    samples, at_s, tokens = [], 0.0, 0
    for gap_s, more in steps:
        at_s, tokens = at_s + gap_s, tokens + more
        samples.append(Sample(at_s, stats_of(tokens)))
    expected = (tokens - steps[0][1]) / (at_s - steps[0][0])
    assert tokens_a_second(samples) == pytest.approx(expected)


def test_the_rate_is_not_known_of_one_sample_nor_across_sidecars_nor_without_one() -> None:
    one, other = Sample(1.0, stats_of(10)), Sample(2.0, stats_of(30, "two"))
    assert tokens_a_second([one]) is None
    assert tokens_a_second([one, other]) is None
    assert tokens_a_second([one, Sample(2.0, problem="away")]) is None
    assert tokens_a_second([one, other, Sample(3.0, stats_of(40, "two"))]) == 10


def test_memory_is_told_by_owner_and_the_engine_by_its_restarts() -> None:
    cache = CacheStatsResult.model_validate(
        {
            "block_tokens": 64,
            "ram": {"limit_bytes": 50, "used_bytes": 20, "pinned_bytes": 0, "blocks": 2},
            "disk": {"state": "off", "used_bytes": 0, "pending_bytes": 0, "blocks": 0, "files": 0},
            "index": {"nodes": 2, "nbytes": 1},
            "counters": {"ram_tokens": 128},
            "models": [],
        }
    )
    told = shared([Sample(1.0, stats_of(0), cache)], 5.0, 1, {}, {}, [])
    assert told.memory is not None
    assert told.memory.owners == {"models": 40, "adapters": 0, "requests": 0, "prefix cache": 20}
    assert sum(told.memory.owners.values()) + (told.memory.free_bytes or 0) == told.memory.limit_bytes
    assert told.engine is not None
    assert told.engine.restarts == 3
    assert told.cache is not None
    assert (told.cache.ram.state, told.cache.ram.tokens, told.cache.disk.state) == ("on", 128, "off")


def test_running_requests_are_bounded_and_the_newest_of_them_listed() -> None:
    running = [record(number) for number in range(MOST_RUNNING + 10)]
    told = own(running, [record(1, duration_s=2.0, outcome="stop", missed="date")], now_s=100.0)
    assert [each.id for each in told.running] == [str(number) for number in range(MOST_RUNNING + 9, 9, -1)]
    assert told.running[0].elapsed_s == 100.0 - (MOST_RUNNING + 9)
    assert (told.ended[0].elapsed_s, told.missed) == (2.0, {"date": 1})


@given(st.lists(st.tuples(st.sampled_from(["ann", "bob"]), st.sampled_from(["POST", "GET"])), max_size=200))
def test_the_last_requests_of_each_key_are_kept_and_those_that_only_read_are_not(came: list[tuple[str, str]]) -> None:
    recent = Recent(time.monotonic)
    for number, (key, method) in enumerate(came):
        recent.hear(record(number, key=key, method=method))
    for key in ("ann", "bob", "eve"):
        posts = [str(number) for number, (other, method) in enumerate(came) if (other, method) == (key, "POST")]
        assert [each.id for each in recent.of(key)] == posts[::-1][:LAST]


def test_times_of_first_tokens_count_for_five_minutes() -> None:
    now_s = 0.0
    recent = Recent(lambda: now_s)
    recent.hear(record(1, generates=True, first_token_s=1.0))
    now_s = 200.0
    recent.hear(record(2, generates=True, first_token_s=2.0))
    assert recent.first_tokens_s() == [1.0, 2.0]
    now_s = 301.0
    assert recent.first_tokens_s() == [2.0]
