"""Responses are kept within bounds, and each session is given back once."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from mlx_sidecar_gateway.surfaces.kept import Kept, KeptResponses, Setting

LIMIT, LIMIT_BYTES, TTL_S = 4, 100, 10.0
SETTING = Setting("m", None, [], {})


def kept(number: int, nbytes: int = 10) -> Kept:
    return Kept(f"resp_{number}", b"x" * nbytes, b"", f"session_{number}", "turn", SETTING)


class Keeping(RuleBasedStateMachine):
    """Against a list of those that are kept, the one first that was used longest ago."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0
        self.responses = KeptResponses(LIMIT, LIMIT_BYTES, TTL_S, lambda: self.now_s)
        self.model: list[tuple[Kept, float]] = []
        self.made = 0
        self.closed: list[str] = []

    def expire(self) -> None:
        self.model = [(each, used_s) for each, used_s in self.model if self.now_s < used_s + TTL_S]

    @rule(nbytes=st.integers(0, LIMIT_BYTES + 10))
    def add(self, nbytes: int) -> None:
        self.made += 1
        self.expire()
        self.model.append((kept(self.made, nbytes), self.now_s))
        self.responses.add(self.model[-1][0])
        while len(self.model) > LIMIT or sum(each.nbytes for each, _ in self.model) > LIMIT_BYTES:
            self.model.pop(0)

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def use(self, data: st.DataObject) -> None:
        self.expire()
        if self.model:
            each, _ = self.model.pop(data.draw(st.integers(0, len(self.model) - 1)))
            self.model.append((each, self.now_s))
            assert self.responses.get(each.id) is each
            self.responses.used(each)

    @rule(number=st.integers(1, 20))
    def remove(self, number: int) -> None:
        self.expire()
        is_there = any(each.id == f"resp_{number}" for each, _ in self.model)
        assert self.responses.remove(f"resp_{number}") == is_there
        self.model = [(each, used_s) for each, used_s in self.model if each.id != f"resp_{number}"]

    @rule(passed_s=st.floats(0.0, TTL_S))
    def wait(self, passed_s: float) -> None:
        self.now_s += passed_s

    @invariant()
    def the_same_are_kept(self) -> None:
        self.expire()
        for number in range(1, self.made + 1):
            found = self.responses.get(f"resp_{number}")
            assert found is next((each for each, _ in self.model if each.id == f"resp_{number}"), None)
        assert len(self.responses) == len(self.model) <= LIMIT
        assert self.responses.nbytes == sum(each.nbytes for each, _ in self.model) <= LIMIT_BYTES

    @invariant()
    def sessions_are_given_back_once(self) -> None:
        self.closed += self.responses.take_sessions()
        still = {each.session for each, _ in self.model}
        assert sorted(self.closed) == sorted({f"session_{number}" for number in range(1, self.made + 1)} - still)


TestKeeping = Keeping.TestCase
TestKeeping.settings = settings(max_examples=30, stateful_step_count=20)


@given(st.integers(0, 5))
def test_what_no_response_is_kept_of_is_given_back_as_well(count: int) -> None:
    responses = KeptResponses()
    for number in range(count):
        responses.leave(f"session_{number}")
    assert responses.take_sessions() == [f"session_{number}" for number in range(count)]
    assert responses.take_sessions() == []


def test_a_response_is_there_for_its_owner_alone() -> None:
    responses = KeptResponses()
    responses.add(replace(kept(1, 10), owner="alice"))
    assert responses.get("resp_1", "alice") is not None
    assert responses.get("resp_1", "bob") is None
    assert responses.get("resp_1") is None


def test_what_the_sidecar_has_no_room_for_is_not_kept() -> None:
    responses = KeptResponses()
    for number in range(3):
        responses.add(kept(number, 100))
    responses.fit(8 * 250)
    assert [responses.get(f"resp_{number}") is not None for number in range(3)] == [False, True, True]
