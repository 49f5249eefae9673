"""The breaker against its table of states, the retry budget, and the wait before a retry."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from mlx_sidecar_gateway.providers.breaker import NEXT, WINDOW, Breaker, Cause, Permit, State
from mlx_sidecar_gateway.providers.retry_budget import RetryBudget, full_jitter_s

FAILURES, OPEN_S, LONGEST_S = 3, 1.0, 8.0


class Breaking(RuleBasedStateMachine):
    """Requests that begin and end in any order, with any pauses between them."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0
        self.breaker = Breaker(FAILURES, OPEN_S, LONGEST_S)
        self.running: list[tuple[Permit, State]] = []
        self.opened_s = 0.0

    @rule(seconds=st.floats(0, 3) | st.just(LONGEST_S))
    def wait(self, seconds: float) -> None:
        self.now_s += seconds

    @rule()
    def begin(self) -> None:
        was = self.breaker.state
        trials = [permit for permit, _ in self.running if permit.is_trial and permit.epoch == self.breaker._epoch]
        permit = self.breaker.admit(self.now_s)
        if was is State.CLOSED:
            assert permit is not None
            assert not permit.is_trial
        elif was is State.OPEN:
            assert (permit is not None) == (self.now_s >= self.opened_s + self.breaker.open_s)
        else:
            assert (permit is None) == bool(trials)
        if permit is not None:
            self.running.append((permit, self.breaker.state))

    @precondition(lambda self: self.running)
    @rule(data=st.data(), how=st.sampled_from(["succeeded", "failed", "abandoned"]))
    def end(self, data: st.DataObject, how: str) -> None:
        permit, _ = self.running.pop(data.draw(st.integers(0, len(self.running) - 1)))
        was, epoch = self.breaker.state, self.breaker._epoch
        if how == "succeeded":
            self.breaker.succeeded(permit, self.now_s)
        elif how == "failed":
            self.breaker.failed(permit, self.now_s)
        else:
            self.breaker.abandoned(permit)
        now = self.breaker.state
        if permit.epoch != epoch or how == "abandoned":
            assert now is was, "a result of an earlier state, or none, changes nothing"
        elif permit.is_trial:
            assert now is NEXT[was, Cause.TRIED_WELL if how == "succeeded" else Cause.TRIED_BADLY]
        if now is State.OPEN and was is not State.OPEN:
            self.opened_s = self.now_s

    @rule()
    def probe(self) -> None:
        was = self.breaker.state
        self.breaker.probed_well(self.now_s)
        assert self.breaker.state is (State.HALF_OPEN if was is State.OPEN else was)

    @invariant()
    def one_trial_at_most(self) -> None:
        trials = [permit for permit, _ in self.running if permit.is_trial and permit.epoch == self.breaker._epoch]
        assert len(trials) <= 1
        assert OPEN_S <= self.breaker.open_s <= LONGEST_S
        assert 0 <= self.breaker.wait_s(self.now_s) <= LONGEST_S


TestBreaking = Breaking.TestCase
TestBreaking.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def permit_of(breaker: Breaker, now_s: float = 0.0) -> Permit:
    permit = breaker.admit(now_s)
    assert permit is not None
    return permit


def test_failures_in_a_row_open_it_and_each_trial_that_fails_doubles_the_wait() -> None:
    breaker = Breaker(FAILURES, OPEN_S, LONGEST_S)
    for _ in range(FAILURES):
        assert breaker.state is State.CLOSED
        breaker.failed(permit_of(breaker), 0.0)
    now_s, waits = 0.0, []
    for _ in range(5):
        assert breaker.state is State.OPEN
        assert breaker.admit(now_s) is None
        waits.append(breaker.wait_s(now_s))
        now_s += waits[-1]
        breaker.failed(permit_of(breaker, now_s), now_s)
    assert waits == [1, 2, 4, 8, 8]
    breaker.succeeded(permit_of(breaker, now_s + 8), now_s + 8)
    assert breaker.state is State.CLOSED


def test_half_of_the_latest_requests_open_it_too() -> None:
    breaker = Breaker(FAILURES, OPEN_S, LONGEST_S)
    for number in range(WINDOW):
        if breaker.state is not State.CLOSED:
            break
        (breaker.failed if number % 2 else breaker.succeeded)(permit_of(breaker), 0.0)
    assert breaker.state is State.OPEN


def test_a_probe_makes_it_half_open_and_only_a_trial_closes_it() -> None:
    breaker = Breaker(1)
    breaker.failed(permit_of(breaker), 0.0)
    breaker.probed_well(0.0)
    trial = permit_of(breaker)
    states = [breaker.state]
    assert breaker.admit(0.0) is None
    breaker.abandoned(trial)
    breaker.succeeded(permit_of(breaker), 0.0)
    assert [*states, breaker.state] == [State.HALF_OPEN, State.CLOSED]


@given(st.lists(st.booleans(), max_size=300), st.floats(0, 1), st.floats(0, 20))
def test_retries_never_exceed_their_share_of_requests_and_the_reserve(
    takes: list[bool], ratio: float, reserve: float
) -> None:
    budget, requests, taken = RetryBudget(ratio, reserve), 0, 0
    for take in takes:
        if take:
            taken += budget.take()
        else:
            budget.request()
            requests += 1
        assert taken <= ratio * requests + reserve + 1e-6


@given(st.integers(1, 20), st.floats(0.01, 10), st.floats(0.01, 60), st.floats(0, 1))
def test_the_wait_before_a_retry_is_anything_up_to_a_bound(
    round_: int, base_s: float, longest_s: float, drawn: float
) -> None:
    assert 0 <= full_jitter_s(round_, base_s, longest_s, lambda: drawn) <= min(longest_s, base_s * 2 ** (round_ - 1))
