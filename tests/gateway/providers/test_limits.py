"""The limits that providers tell, with a clock of our own."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlx_sidecar_gateway.providers.limits import Limits
from mlx_sidecar_gateway.surfaces.allowance import Allowance, anthropic_headers, openai_headers

UNIX_S = 1_800_000_000.0


def limits(longest_s: float = 300.0) -> Limits:
    return Limits(longest_s, lambda: UNIX_S)


@pytest.mark.parametrize(
    ("headers", "wait_s"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "7", "retry-after-ms": "250"}, 0.25),
        ({"retry-after": format_datetime(datetime.fromtimestamp(UNIX_S + 9, UTC), usegmt=True)}, 9.0),
        ({"retry-after": "9999"}, 300.0),
        ({"retry-after": "soon"}, 1.0),
        ({"retry-after": "-3"}, 1.0),
        ({"retry-after": "nan"}, 1.0),
        ({}, 1.0),
    ],
)
def test_a_429_says_how_long_the_provider_is_left_alone(headers: dict[str, str], wait_s: float) -> None:
    told = limits()
    assert told.refused(429, headers, 100.0) == pytest.approx(wait_s)
    assert told.wait_s(100.0) == pytest.approx(wait_s)
    assert told.wait_s(100.0 + wait_s) == pytest.approx(0, abs=1e-6)


def test_a_503_that_says_nothing_leaves_it_to_the_breaker() -> None:
    told = limits()
    assert told.refused(503, {}, 0.0) is None
    assert told.wait_s(0.0) == 0


@pytest.mark.parametrize(
    ("headers", "wait_s"),
    [
        ({"x-ratelimit-remaining-requests": "1", "x-ratelimit-reset-requests": "9s"}, 0.0),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "6m0s"}, 300.0),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "20ms"}, 0.02),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "1m1.5s"}, 61.5),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "12"}, 12.0),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "never"}, 0.0),
        ({"x-ratelimit-remaining-requests": "0"}, 0.0),
        (
            {
                "anthropic-ratelimit-requests-remaining": "0",
                "anthropic-ratelimit-requests-reset": datetime.fromtimestamp(UNIX_S + 30, UTC).isoformat(),
            },
            30.0,
        ),
        # A bucket of 60 that is whole again in 60 s has its next one in a second.
        (
            {
                "x-ratelimit-remaining-requests": "0",
                "x-ratelimit-limit-requests": "60",
                "x-ratelimit-reset-requests": "60s",
            },
            1.0,
        ),
    ],
)
def test_nothing_is_sent_while_a_quota_is_known_to_be_used_up(headers: dict[str, str], wait_s: float) -> None:
    told = limits()
    told.heard(headers, 5.0)
    assert told.wait_s(5.0) == pytest.approx(wait_s, abs=1e-3)


@given(st.integers(1, 10**6), st.floats(0.001, 3600))
def test_the_headers_of_a_gateway_are_understood_by_another(limit: int, reset_s: float) -> None:
    for headers_of in (openai_headers, anthropic_headers):
        told = limits(longest_s=1e9)
        headers = headers_of([Allowance("requests", limit, 0, reset_s)], UNIX_S)
        told.heard(headers, 0.0)
        assert told.remaining == {"requests": 0}
        assert told.wait_s(0.0) == pytest.approx(reset_s / limit, abs=0.002)


@given(st.dictionaries(st.sampled_from(["retry-after", "x-ratelimit-remaining-tokens"]), st.text(max_size=12)))
def test_headers_of_any_text_are_taken(headers: dict[str, str]) -> None:
    told = limits()
    told.heard(headers, 0.0)
    told.refused(429, headers, 0.0)
    assert 0 <= told.wait_s(0.0) <= 300.0
