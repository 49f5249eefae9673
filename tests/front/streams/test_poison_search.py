"""Isolation: blame after deaths is exact, ends soon, and never leaves all streams waiting."""

from __future__ import annotations

import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from mlx_sidecar.front.streams.poison_search import DEATHS_BY_FORCE, UNEXPLAINED_DEATHS, PoisonSearch, Verdict

NOTHING = Verdict([], narrowed=False)
NARROWED = Verdict([], narrowed=True)
NOBODY_KNOWN = -1  # a number no stream has: stands for all newcomers


def on_trial(poison_search: PoisonSearch, ids: range) -> list[int]:
    return [id_ for id_ in ids if poison_search.admits(id_)]


def test_everybody_is_admitted_in_normal_times() -> None:
    poison_search = PoisonSearch()
    assert poison_search.admits(7)
    assert not poison_search.active
    assert not poison_search.progressed(7)
    assert not poison_search.ended(7)
    assert not poison_search.pause(7)


def test_a_first_death_blames_nobody() -> None:
    poison_search = PoisonSearch()
    assert poison_search.died({1, 2, 3}) == NOTHING
    assert on_trial(poison_search, range(5)) == [0, 1, 2, 3, 4]


def test_a_stream_that_runs_at_two_deaths_alone_is_poison_and_forgotten() -> None:
    poison_search = PoisonSearch()
    assert poison_search.died({1}) == NOTHING
    assert poison_search.died({1}) == Verdict([1], narrowed=True)
    assert not poison_search.active
    assert poison_search.died({1}) == NOTHING


def test_a_token_between_two_deaths_clears() -> None:
    poison_search = PoisonSearch()
    poison_search.died({1, 2})
    assert not poison_search.progressed(1)
    assert poison_search.died({1, 2}) == NARROWED
    assert on_trial(poison_search, range(4)) == [2]
    assert poison_search.died({2}) == Verdict([2], narrowed=True)


@pytest.mark.parametrize("running", [set[int](), {9}])
def test_a_death_of_nobody_we_suspect_changes_nothing_outside_a_trial(running: set[int]) -> None:
    poison_search = PoisonSearch()
    poison_search.died({1})
    assert poison_search.died(running) == NOTHING
    assert poison_search.died({1}) == Verdict([1], narrowed=True)


def test_several_suspects_are_tried_in_halves_older_first_while_the_others_wait() -> None:
    poison_search = PoisonSearch()
    poison_search.died({4, 1, 3, 2, 5})
    assert poison_search.died({4, 1, 3, 2, 5, 6}) == NARROWED
    assert on_trial(poison_search, range(8)) == [1, 2, 3]
    assert [poison_search.progressed(id_) for id_ in (1, 3, 2)] == [False, False, True]
    assert on_trial(poison_search, range(8)) == [4, 5]
    assert poison_search.ended(4) is False
    assert poison_search.pause(5) is True
    assert not poison_search.active


def test_a_group_that_dies_is_halved_before_the_others_and_its_absent_members_follow() -> None:
    poison_search = PoisonSearch()
    for _ in range(2):
        poison_search.died(range(8))
    assert poison_search.died({0, 1}) == NARROWED
    assert poison_search.died({0}) == Verdict([0], narrowed=True)
    assert on_trial(poison_search, range(8)) == [1]
    assert poison_search.progressed(1)
    assert on_trial(poison_search, range(8)) == [2, 3]
    assert poison_search.died({3}) == Verdict([3], narrowed=True)
    assert on_trial(poison_search, range(8)) == [2]
    assert poison_search.progressed(2)
    assert on_trial(poison_search, range(8)) == [4, 5, 6, 7]


def test_a_queued_group_whose_members_all_leave_is_passed_over() -> None:
    poison_search = PoisonSearch()
    for _ in range(2):
        poison_search.died(range(4))
    assert not poison_search.ended(2)
    assert not poison_search.progressed(3)
    assert on_trial(poison_search, range(5)) == [0, 1]
    assert not poison_search.ended(0)
    assert poison_search.ended(1)
    assert not poison_search.active


def test_a_stream_set_aside_keeps_its_deaths() -> None:
    poison_search = PoisonSearch()
    for _ in range(2):
        poison_search.died({1, 2})
    assert poison_search.pause(1)
    assert poison_search.progressed(2)
    assert poison_search.died({1, 2}) == NARROWED
    assert on_trial(poison_search, range(4)) == [1]


def test_deaths_at_which_nobody_on_trial_runs_call_the_trial_off_and_are_forgotten() -> None:
    poison_search = PoisonSearch()
    for _ in range(2):
        poison_search.died({1, 2})
    for _ in range(UNEXPLAINED_DEATHS - 1):
        assert poison_search.died({2}) == NOTHING
        assert on_trial(poison_search, range(4)) == [1]
    assert poison_search.died(()) == NOTHING
    assert not poison_search.active
    assert poison_search.died({1, 2}) == NOTHING


def test_who_ran_beside_one_that_has_ended_since_is_tried_and_not_blamed() -> None:
    poison_search = PoisonSearch()
    poison_search.died({1, 2})
    assert poison_search.died({2}, beside=1) == NARROWED
    assert on_trial(poison_search, range(4)) == [2]
    assert poison_search.died({2}, beside=1) == NOTHING
    assert poison_search.died({2}) == Verdict([2], narrowed=True)


def test_who_is_killed_by_others_is_poison_at_the_fifth_death_without_a_token_and_not_before() -> None:
    poison_search = PoisonSearch()
    verdicts = [poison_search.died({1}, forced=True) for _ in range(DEATHS_BY_FORCE)]
    assert verdicts == [NOTHING, NARROWED, NOTHING, NOTHING, Verdict([1], narrowed=True)]


def test_a_death_that_blames_starts_the_count_of_unexplained_ones_again() -> None:
    poison_search = PoisonSearch()
    for _ in range(2):
        poison_search.died(range(4))
    for running in ((), (), (0, 1), (), ()):
        poison_search.died(running)
    assert on_trial(poison_search, range(4)) == [0]


class Simulation:
    """Rounds of an engine that dies, before any token, of a poison or of ``kills``; else all that run get one token."""

    def __init__(self, lengths: list[int], poisons: set[int], arrivals: list[int] | None = None) -> None:
        self.poison_search = PoisonSearch()
        self.tokens_left = dict(enumerate(lengths))
        self.poisons = poisons
        self.arrivals = arrivals or [0] * len(lengths)
        self.deaths = 0
        self.unlucky: Counter[int] = Counter()  # deaths since the last token
        self.poisoned: set[int] = set()
        self.round = 0

    def step(self, killed: bool = False) -> None:
        arrived = [id_ for id_ in self.tokens_left if self.arrivals[id_] <= self.round]
        running = {id_ for id_ in arrived if self.poison_search.admits(id_)}
        assert running or not arrived
        self.round += 1
        if killed or running & self.poisons:
            self.die(running)
        else:
            for id_ in running:
                self.decode(id_)

    def die(self, running: set[int]) -> None:
        self.deaths += 1
        self.unlucky.update(running)
        for id_ in self.poison_search.died(running).poisoned:
            assert self.unlucky[id_] >= 2
            assert running == {id_}
            self.poisoned.add(id_)
            del self.tokens_left[id_]

    def decode(self, id_: int) -> None:
        self.poison_search.progressed(id_)
        self.unlucky[id_] = 0
        self.tokens_left[id_] -= 1
        if not self.tokens_left[id_]:
            self.poison_search.ended(id_)
            del self.tokens_left[id_]

    def finish(self) -> None:
        for _ in range(2_000):
            if not self.tokens_left:
                return
            self.step()
        raise AssertionError(f"never ended: {self.tokens_left}")


sizes = st.integers(1, 40)


@st.composite
def crowds(draw: st.DrawFn) -> tuple[list[int], set[int], list[int]]:
    lengths = draw(st.lists(st.integers(1, 5), min_size=1, max_size=40))
    n = len(lengths)
    poisons = draw(st.sets(st.integers(0, n - 1)))
    return lengths, poisons, draw(st.lists(st.integers(0, 12), min_size=n, max_size=n))


@given(crowds())
def test_exactly_the_poisons_are_poisoned_and_soon_and_all_others_end(
    crowd: tuple[list[int], set[int], list[int]],
) -> None:
    lengths, poisons, arrivals = crowd
    simulation = Simulation(lengths, poisons, arrivals)
    simulation.finish()
    assert simulation.poisoned == poisons
    assert simulation.deaths <= len(poisons) * (2 + math.ceil(math.log2(len(lengths)))) + 2


@pytest.mark.parametrize("n", [1, 2, 3, 16, 17, 40])
def test_a_poison_alone_is_found_within_two_deaths_and_the_halvings(n: int) -> None:
    for poison in range(n):
        simulation = Simulation([3] * n, {poison})
        simulation.finish()
        assert simulation.poisoned == {poison}
        assert simulation.deaths <= 2 + math.ceil(math.log2(n))


def test_two_poisons_among_sixteen_are_found_and_fourteen_finish() -> None:
    for poisons in [{a, b} for a in range(16) for b in range(a)]:
        simulation = Simulation([3] * 16, poisons)
        simulation.finish()
        assert simulation.poisoned == poisons
        assert simulation.deaths <= 2 + 2 * 4


@given(crowds(), st.lists(st.booleans(), max_size=60))
def test_outside_kills_poison_only_what_died_twice_without_a_token_between(
    crowd: tuple[list[int], set[int], list[int]], kills: list[bool]
) -> None:
    lengths, poisons, arrivals = crowd
    simulation = Simulation(lengths, poisons, arrivals)
    for killed in kills:
        simulation.step(killed)  # asserts it for each that is poisoned
    simulation.finish()
    assert poisons <= simulation.poisoned


@given(sizes, st.lists(st.booleans(), max_size=60))
def test_kills_with_a_token_of_everybody_between_them_poison_nobody(n: int, kills: list[bool]) -> None:
    simulation = Simulation([100] * n, set())
    for killed in kills:
        simulation.step(killed)
        simulation.step()
    assert not simulation.poisoned
    assert not simulation.poison_search.active


class Host(RuleBasedStateMachine):
    """Streams that open, pause, resume, get tokens, end and die in any order, also those that should have waited."""

    def __init__(self) -> None:
        super().__init__()
        self.poison_search = PoisonSearch()
        self.opened = 0
        self.streams: set[int] = set()
        self.paused: set[int] = set()
        self.unlucky: Counter[int] = Counter()

    def some(self, data: st.DataObject, among: set[int]) -> int:
        return data.draw(st.sampled_from(sorted(among)))

    def admitted(self) -> set[int]:
        return {id_ for id_ in {*self.streams, NOBODY_KNOWN} if self.poison_search.admits(id_)}

    @rule(count=st.integers(1, 6))
    def open(self, count: int) -> None:
        self.streams |= set(range(self.opened, self.opened + count))
        self.opened += count

    @precondition(lambda self: self.streams)
    @rule(data=st.data())
    def token(self, data: st.DataObject) -> None:
        id_ = self.some(data, self.streams)
        before = self.admitted()
        self.unlucky[id_] = 0
        changed = self.poison_search.progressed(id_)
        assert changed == bool(self.admitted() - before)

    @precondition(lambda self: self.streams)
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        id_ = self.some(data, self.streams)
        before = self.admitted()
        changed = self.poison_search.ended(id_)
        self.streams.remove(id_)
        self.paused.discard(id_)
        assert changed == bool(self.admitted() - before)

    @precondition(lambda self: self.streams - self.paused)
    @rule(data=st.data())
    def pause(self, data: st.DataObject) -> None:
        id_ = self.some(data, self.streams - self.paused)
        before = self.admitted()
        self.paused.add(id_)
        changed = self.poison_search.pause(id_)
        assert changed == bool(self.admitted() - before)

    @precondition(lambda self: self.paused)
    @rule(data=st.data())
    def resume(self, data: st.DataObject) -> None:
        self.paused.remove(self.some(data, self.paused))

    @rule(data=st.data(), all_admitted=st.booleans())
    def die(self, data: st.DataObject, all_admitted: bool) -> None:
        if all_admitted:
            running = self.admitted() - {NOBODY_KNOWN}
        else:
            running = data.draw(st.sets(st.sampled_from(sorted(self.streams)))) if self.streams else set()
        self.unlucky.update(running)
        verdict = self.poison_search.died(running)
        assert verdict.narrowed or not verdict.poisoned
        for id_ in verdict.poisoned:
            assert self.unlucky[id_] >= 2
            assert running == {id_}
            self.streams.remove(id_)
            self.paused.discard(id_)
        for id_ in self.paused:
            self.poison_search.pause(id_)

    @invariant()
    def somebody_who_can_run_may_run(self) -> None:
        able = self.streams - self.paused
        assert self.poison_search.active == (NOBODY_KNOWN not in self.admitted())
        assert not self.poison_search.active or self.admitted() & able
        assert not able or self.admitted() & able

    def teardown(self) -> None:
        for _ in range(self.opened + 1):
            for id_ in self.admitted() - {NOBODY_KNOWN}:
                self.poison_search.progressed(id_)
        assert not self.poison_search.active


TestHost = Host.TestCase
