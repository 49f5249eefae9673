"""Keys and their quotas, without HTTP and with a clock of our own."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlx_sidecar_gateway.core.caller import Caller
from mlx_sidecar_gateway.core.faults import headers_of
from mlx_sidecar_gateway.core.headers import DEADLINE, EXPLAIN_CACHE, PRIORITY, options_of
from mlx_sidecar_gateway.core.keys import ANYBODY, PRIORITIES, Key, read_keys
from mlx_sidecar_gateway.core.quota import MINUTE_NS, Bucket, Quota
from mlx_sidecar_gateway.surfaces.faults import Fault, Refused

SECOND_NS = 10**9
gaps_ns = st.integers(0, 2 * MINUTE_NS) | st.integers(0, SECOND_NS)


class Clock:
    """A clock that goes when it is told to."""

    def __init__(self) -> None:
        self.now_ns = 0

    def __call__(self) -> int:
        return self.now_ns


def refusal(quota: Quota, tokens: int | None) -> Fault | None:
    """The fault with which a request is refused; None if it is taken."""
    try:
        quota.admit(tokens)
    except Refused as refused:
        return refused.fault
    return None


# The file.


def test_a_line_has_a_name_and_a_key_and_limits_if_wanted() -> None:
    keys = read_keys(
        "# ours\nann  k1 # her laptop\n\nbob k2 models=a,org/b rpm=60 tpm=9000 priority=low max-priority=high\n"
    )
    assert keys == {
        "k1": Key(name="ann"),
        "k2": Key(
            name="bob",
            models=frozenset({"a", "org/b"}),
            requests_a_minute=60,
            tokens_a_minute=9000,
            priority="low",
            highest_priority="high",
        ),
    }


def test_a_key_that_may_only_be_low_is_low_without_saying_so() -> None:
    assert read_keys("a k max-priority=low")["k"].priority == "low"
    assert read_keys("a k max-priority=normal")["k"].priority == "normal"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no keys"),
        ("# none\n", "no keys"),
        ("key\n", "line 1 has no name and key"),
        ("a b\n\nann k\nbob k\n", "line 4 has the key of 'ann' again"),
        ("a b c\n", "line 1: c: no such word; there are models=, rpm=, tpm=, priority=, max-priority="),
        ("a b rpm=0\n", "line 1: rpm=0: a whole number of at least 1"),
        ("a b\na c tpm=many\n", "line 2: tpm=many: a whole number of at least 1"),
        ("a b rpm=²\n", "line 1: rpm=²: a whole number"),
        ("a b rpm=1 rpm=2\n", "line 1: rpm=2: rpm stands there twice"),
        ("a b models=\n", "line 1: models=: names of models are needed"),
        ("a b models=x,,y\n", "line 1: models=x,,y: names of models are needed"),
        ("a b priority=urgent\n", "line 1: priority=urgent: must be low, normal, high or critical"),
        ("a b priority=high max-priority=low\n", "line 1: priority=high: max-priority=low is below it"),
    ],
)
def test_a_line_that_does_not_fit_is_told_with_its_word(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=r"line|keys") as raised:
        read_keys(text)
    assert words in str(raised.value)


@given(st.text(st.sampled_from("ab=,# \nrpmk0123456789"), max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    with suppress(ValueError):
        assert read_keys(text)


# The buckets.


@given(st.integers(1, 200), st.lists(gaps_ns, max_size=80))
def test_in_no_span_of_time_more_is_taken_than_a_bucket_and_what_flows_in(size: int, gaps: list[int]) -> None:
    bucket, now_ns, taken = Bucket(size, 0), 0, list[int]()
    for gap in gaps:
        now_ns += gap
        while not bucket.wait_ns(now_ns) and len(taken) < 400:
            bucket.take(1, now_ns)
            taken.append(now_ns)
    for first, begin in enumerate(taken):
        for last in range(first, len(taken)):
            assert (last - first + 1 - size) * MINUTE_NS <= size * (taken[last] - begin)


@given(st.integers(1, 10**6), st.lists(st.tuples(gaps_ns, st.integers(-500, 10**5)), min_size=1, max_size=30))
def test_the_wait_is_long_enough_and_not_a_nanosecond_too_long(size: int, events: list[tuple[int, int]]) -> None:
    bucket, now_ns = Bucket(size, 0), 0
    for gap, count in events:
        now_ns += gap
        bucket.take(count, now_ns)
    wait_ns = bucket.wait_ns(now_ns)
    if wait_ns:
        assert bucket.wait_ns(now_ns + wait_ns - 1) == 1
    assert bucket.wait_ns(now_ns + wait_ns) == 0
    assert bucket.left(now_ns + wait_ns) >= 1


@given(st.integers(1, 500), st.lists(st.tuples(gaps_ns, st.integers(0, 2000)), max_size=30))
def test_before_a_request_is_taken_all_earlier_ones_are_paid_for(size: int, asked: list[tuple[int, int]]) -> None:
    clock, spent = Clock(), 0
    quota = Quota(Key(name="a", tokens_a_minute=size), clock)
    for gap, tokens in asked:
        clock.now_ns += gap
        if refusal(quota, 1) is None:
            assert spent * MINUTE_NS < size * (MINUTE_NS + clock.now_ns)
            quota.settle(1, tokens)
            spent += tokens


@given(
    st.integers(1, 50) | st.none(),
    st.integers(1, 5000) | st.none(),
    st.lists(st.tuples(gaps_ns, st.integers(0, 3000) | st.none()), max_size=40),
)
def test_a_request_that_comes_when_it_was_told_to_is_taken(
    requests: int | None, tokens: int | None, asked: list[tuple[int, int | None]]
) -> None:
    clock = Clock()
    quota = Quota(Key(name="a", requests_a_minute=requests, tokens_a_minute=tokens), clock)
    for gap, count in asked:
        clock.now_ns += gap
        fault = refusal(quota, count)
        if fault is not None:
            assert (fault.status, fault.kind) == (429, "rate_limited")
            told_ns = int(headers_of(fault)["retry-after-ms"]) * 10**6
            assert told_ns <= int(headers_of(fault)["retry-after"]) * SECOND_NS
            clock.now_ns += told_ns
            assert refusal(quota, count) is None


def test_a_burst_is_counted_before_it_has_ended_and_put_right_afterwards() -> None:
    clock = Clock()
    quota = Quota(Key(name="a", tokens_a_minute=100), clock)
    assert refusal(quota, 80) is None
    assert refusal(quota, 80) is None  # something was left
    assert refusal(quota, 80) is not None
    quota.settle(80, 5)
    quota.settle(80, 5)
    (left,) = quota.allowances()
    assert (left.what, left.limit, left.remaining) == ("tokens", 100, 90)


def test_a_request_that_is_refused_takes_nothing_from_either_quota() -> None:
    clock = Clock()
    quota = Quota(Key(name="a", requests_a_minute=10, tokens_a_minute=10), clock)
    assert refusal(quota, 10) is None
    for _ in range(20):
        assert refusal(quota, 10) is not None
    requests, tokens = quota.allowances()
    assert (requests.remaining, tokens.remaining) == (9, 0)


def test_a_long_debt_is_told_as_it_is_and_not_to_be_waited_for() -> None:
    quota = Quota(Key(name="a", tokens_a_minute=10), Clock())
    quota.admit(0)
    quota.settle(0, 1000)
    fault = refusal(quota, 0)
    assert fault is not None
    assert headers_of(fault) == {"x-should-retry": "false", "retry-after": "5946", "retry-after-ms": "5946000"}


# Priorities and other headers.


@given(st.sampled_from(PRIORITIES), st.sampled_from(PRIORITIES), st.sampled_from(PRIORITIES) | st.none())
def test_a_priority_is_honoured_up_to_the_keys_highest_and_refused_beyond_it(
    default: str, highest: str, asked: str | None
) -> None:
    caller = Caller(Key(name="a", priority=default, highest_priority=highest), Clock())
    headers = {} if asked is None else {PRIORITY: asked}
    if asked is not None and PRIORITIES.index(asked) > PRIORITIES.index(highest):
        with pytest.raises(Refused) as refused:
            options_of(headers, caller)
        fault = refused.value.fault
        assert (fault.status, fault.kind, fault.param) == (403, "priority_refused", PRIORITY)
    else:
        assert options_of(headers, caller) == {"priority": default if asked is None else asked}


@pytest.mark.parametrize(
    ("header", "value"),
    [
        (PRIORITY, "urgent"),
        (PRIORITY, ""),
        (DEADLINE, "soon"),
        (DEADLINE, ""),
        (DEADLINE, "0"),
        (DEADLINE, "-1"),
        (DEADLINE, "nan"),
        (DEADLINE, "inf"),
        (EXPLAIN_CACHE, "yes"),
    ],
)
def test_a_header_that_does_not_fit_is_refused_by_its_name(header: str, value: str) -> None:
    with pytest.raises(Refused) as refused:
        options_of({header: value}, Caller(ANYBODY, Clock()))
    assert (refused.value.fault.status, refused.value.fault.param) == (400, header)
    assert refused.value.fault.message.startswith(f"{header}: ")


def test_headers_become_options() -> None:
    headers = {PRIORITY: "critical", DEADLINE: "1.5", EXPLAIN_CACHE: "1"}
    options = {"priority": "critical", "deadline_s": 1.5, "explain_cache": True}
    assert options_of(headers, Caller(ANYBODY, Clock())) == options
    assert options_of({EXPLAIN_CACHE: "0"}, Caller(ANYBODY, Clock())) == {"priority": "normal"}
