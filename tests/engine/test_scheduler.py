"""The scheduler decides over records; time is a number."""

from __future__ import annotations

from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from mlx_sidecar.engine.scheduler import Limits, Scheduler
from mlx_sidecar.engine.sequence import Sequence
from mlx_sidecar.link.messages import Sampling
from mlx_sidecar.models.budget import LayerCost, SequenceCost
from mlx_sidecar_protocol.errors import Overloaded

LIMITS = Limits(waiting=6, running=4, prefilling=2, prefill_tokens=10)
MODELS = ("a", "b", "c")


def sequence(id_: int, model: str = "a", tokens: int = 1, now: float = 0.0) -> Sequence:
    return Sequence(id_, model, [1] * tokens, 0, Sampling(), [], 10, SequenceCost((LayerCost(token_bytes=1),)), now)


class SchedulerMachine(RuleBasedStateMachine):
    """Arrivals, admissions, first tokens and ends in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.scheduler = Scheduler(LIMITS)
        self.ids = count(1)
        self.waiting: list[Sequence] = []
        self.running: list[Sequence] = []
        self.now = 0.0

    @rule(model=st.sampled_from(MODELS), tokens=st.integers(1, 20))
    def arrive(self, model: str, tokens: int) -> None:
        new = sequence(next(self.ids), model, tokens)
        if len(self.waiting) >= LIMITS.waiting:
            with pytest.raises(Overloaded) as refused:
                self.scheduler.enqueue(new)
            assert refused.value.details["retry_after_s"] >= 0
            assert self.scheduler.find(new.id) is None
            return
        self.scheduler.enqueue(new)
        self.waiting.append(new)

    @rule()
    def admit(self) -> None:
        candidate = self.scheduler.candidate()
        if candidate is None:
            return
        earlier = [other for other in self.waiting if other.model == candidate.model and other.id < candidate.id]
        assert not earlier, "nobody of its model is overtaken"
        self.scheduler.admit(candidate, self.now)
        self.waiting.remove(candidate)
        self.running.append(candidate)

    @precondition(lambda self: any(s.prefilling for s in self.running))
    @rule(data=st.data())
    def first_token(self, data: st.DataObject) -> None:
        data.draw(st.sampled_from([s for s in self.running if s.prefilling])).first_token_s = self.now

    @precondition(lambda self: self.waiting or self.running)
    @rule(data=st.data(), later=st.floats(0, 10))
    def end(self, data: st.DataObject, later: float) -> None:
        self.now += later
        ended = data.draw(st.sampled_from(self.waiting + self.running))
        self.scheduler.retire(ended, self.now)
        (self.waiting if ended in self.waiting else self.running).remove(ended)
        assert self.scheduler.find(ended.id) is None

    @invariant()
    def books_agree(self) -> None:
        assert self.scheduler.waiting == len(self.waiting)
        assert self.scheduler.running == len(self.running)
        assert self.scheduler.reserved_bytes == sum(s.need_bytes for s in self.running)
        for model in MODELS:
            assert self.scheduler.streams(model) == sum(s.model == model for s in self.waiting + self.running)
        assert self.scheduler.youngest() is max(self.running, key=lambda s: s.id, default=None)
        assert set(self.scheduler.running_models()) == {s.model for s in self.running}

    @invariant()
    def limits_hold(self) -> None:
        for model in MODELS:
            running = [s for s in self.running if s.model == model]
            prefilling = [len(s.tokens) for s in running if s.prefilling]
            assert len(running) <= LIMITS.running
            assert len(prefilling) <= LIMITS.prefilling or sum(prefilling) <= LIMITS.prefill_tokens

    @invariant()
    def who_has_a_place_is_not_kept_waiting(self) -> None:
        if self.scheduler.candidate() is None:
            for model in {s.model for s in self.waiting}:
                assert any(s.model == model for s in self.running)


TestScheduler = SchedulerMachine.TestCase


@given(st.lists(st.sampled_from(MODELS), min_size=1, max_size=60))
def test_lanes_that_stay_due_take_turns(extra: list[str]) -> None:
    scheduler = Scheduler(LIMITS)
    served = [scheduler.next_lane(dict.fromkeys(["x", "y", *extra], 0.0), 1.0) for _ in range(40)]
    lanes = {"x", "y", *extra}
    for at in range(len(served) - len(lanes) + 1):
        assert set(served[at : at + len(lanes)]) == lanes


def test_a_lane_that_is_not_due_is_passed_over() -> None:
    scheduler = Scheduler(LIMITS)
    assert scheduler.next_lane({"later": 2.0, "now": 1.0}, 1.0) == "now"
    assert scheduler.next_lane({"later": 2.0}, 1.0) is None
    assert scheduler.next_lane({}, 1.0) is None


def test_a_lane_that_comes_back_is_not_behind_those_that_stayed() -> None:
    scheduler = Scheduler(LIMITS)
    for _ in range(3):
        scheduler.next_lane({"a": 0.0, "b": 0.0}, 1.0)
    assert scheduler.next_lane({"a": 0.0, "b": 0.0, "new": 0.0}, 1.0) == "new"


def test_a_short_prompt_does_not_wait_behind_a_long_one() -> None:
    scheduler = Scheduler(LIMITS)
    for candidate in (sequence(1, tokens=1000), sequence(2)):
        scheduler.enqueue(candidate)
        assert scheduler.candidate() is candidate
        scheduler.admit(candidate, 0.0)
    scheduler.enqueue(sequence(3))
    assert scheduler.candidate() is None


def test_a_refused_host_is_told_how_fast_places_come_free() -> None:
    scheduler = Scheduler(Limits(waiting=0))
    for id_ in range(50):
        running = sequence(id_)
        scheduler._waiting.setdefault("a", {})[id_] = running
        scheduler.retire(running, now=id_ * 0.25)
    with pytest.raises(Overloaded) as refused:
        scheduler.enqueue(sequence(99))
    assert refused.value.details["retry_after_s"] == pytest.approx(0.25, rel=0.01)
