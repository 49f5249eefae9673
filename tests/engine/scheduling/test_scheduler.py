"""The scheduler decides over records; time is a number. The driver here does what the loop and a batch would do."""

from __future__ import annotations

from itertools import count, cycle, takewhile

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from mlx_sidecar.engine.core.batch import Role, Work
from mlx_sidecar.engine.core.memory_cost import LayerCost, SequenceCost
from mlx_sidecar.engine.core.memory_ledger import MemoryLedger
from mlx_sidecar.engine.core.sequence import Sequence
from mlx_sidecar.engine.scheduling.priority_queue import AGEING_S
from mlx_sidecar.engine.scheduling.scheduler import Limits, Scheduler
from mlx_sidecar.engine.scheduling.step_cost_model import CHUNK, LEAST_CHUNK
from mlx_sidecar.link.messages import RANKS, Priority
from mlx_sidecar_protocol.errors import Overloaded
from tests.support.sequences import sequence_of

LIMITS = Limits(waiting=8, running=3)
MODELS = ("a", "b")
PRIORITIES: list[Priority] = ["critical", "high", "normal", "low"]
priorities = st.sampled_from(PRIORITIES)


class Driver:
    """A scheduler, a memory and batches whose steps overlap: a token is read one step after it was asked for."""

    def __init__(self, limits: Limits, capacity: int = 10**9) -> None:
        self.scheduler = Scheduler(limits, MemoryLedger(capacity))
        self.limits, self.capacity = limits, capacity
        self.ids = count(1)
        self.now = 0.0
        self.state: dict[Sequence, str] = {}
        self.admissions: list[Sequence] = []

    def sequence(
        self,
        tokens: int = 1,
        limit: int = 4,
        priority: Priority = "normal",
        model: str = "a",
        deadline_s: float = float("inf"),
    ) -> Sequence:
        cost = SequenceCost((LayerCost(token_bytes=1),))
        return sequence_of(
            next(self.ids),
            [1] * tokens,
            limit,
            model=model,
            cost=cost,
            arrived_s=self.now,
            priority=priority,
            deadline_s=deadline_s,
        )

    def submit(self, sequence: Sequence) -> Sequence:
        self.scheduler.enqueue(sequence, self.now)
        self.state[sequence] = "waiting"
        return sequence

    def admit(self) -> list[Sequence]:
        """Admit sequences as far as there are places and memory; return those that got a free place."""
        free: list[Sequence] = []
        while (candidate := self.scheduler.candidate(self.now)) is not None:
            assert not candidate.paused
            assert self.now < candidate.asked.deadline_s
            running = [s for s, state in self.state.items() if (s.model, state) == (candidate.model, "running")]
            if not candidate.parked and not self.make_room(candidate):
                break
            victim = self.scheduler.victim(candidate, self.now, for_memory=False)
            if victim is not None:
                assert victim.model == candidate.model
                assert RANKS[victim.asked.priority] > RANKS[candidate.asked.priority]
                self.scheduler.park(victim, self.now, keep=True)
                self.state[victim] = "parked"
            self.scheduler.admit(candidate, self.now)
            self.state[candidate] = "running"
            self.admissions.append(candidate)
            if len(running) < self.limits.running:
                free.append(candidate)
        return free

    def make_room(self, candidate: Sequence) -> bool:
        def short() -> bool:
            return self.scheduler.reserved_bytes + candidate.need_bytes > self.capacity

        yielding = self.scheduler.yields(candidate, self.now).nbytes
        if self.scheduler.reserved_bytes - yielding + candidate.need_bytes > self.capacity:
            return False
        while short():
            victim = self.scheduler.victim(candidate, self.now, for_memory=True)
            assert victim is not None
            assert victim is not candidate
            self.drop(victim)
        return True

    def drop(self, victim: Sequence) -> None:
        self.scheduler.park(victim, self.now, keep=False)
        victim.known = victim.in_flight = 0
        self.state[victim] = "waiting"

    def pause(self, sequence: Sequence) -> None:
        self.scheduler.pause(sequence, self.now)
        if self.state[sequence] == "running":
            self.state[sequence] = "parked"

    def step(self, model: str, seconds: float = 0.01) -> None:
        work = self.scheduler.plan(model, self.now)
        self.check(model, work)
        asked = {part.sequence for part in work if part.samples}
        for sequence, tokens, _ in work:
            sequence.known += tokens
        self.scheduler.account(model, work, seconds)
        for sequence in [s for s in self.state if s.model == model]:
            if sequence.in_flight:
                sequence.generated.append(0)
                sequence.times.last_token_s = self.now
            sequence.in_flight = int(sequence in asked)
        self.scheduler.grown(model, work)
        for sequence in [s for s in self.state if s.model == model]:
            if len(sequence.generated) == sequence.limit:
                self.end(sequence)
        self.keep_to_budget()

    def keep_to_budget(self) -> None:
        while self.scheduler.reserved_bytes > self.capacity:
            youngest = self.scheduler.youngest(self.now)
            assert youngest is not None
            self.drop(youngest)

    def check(self, model: str, work: list[Work]) -> None:
        """Check the properties of every plan."""
        running = [s for s, state in self.state.items() if (s.model, state) == (model, "running")]
        ready = [s for s in running if not (s.spent or s.awaits_token)]
        assert {part.sequence for part in work} <= set(ready)
        assert len({part.sequence for part in work}) == len(work)
        decoding = [s for s in sorted(ready, key=lambda s: s.standing.admitted_s) if s.pending == 1]
        assert {part.sequence for part in work[: len(decoding)]} == set(decoding), "all that decode, and they first"
        assert all((tokens, role) == (1, Role.DECODE) for _, tokens, role in work[: len(decoding)])
        prefill = work[len(decoding) :]
        assert sum(part.tokens for part in prefill) <= CHUNK
        for nth, (sequence, tokens, role) in enumerate(prefill):
            assert role is Role.PREFILL
            assert (min(LEAST_CHUNK, sequence.pending) if nth else 1) <= tokens <= sequence.pending
        assert bool(work) == bool(ready)

    def end(self, sequence: Sequence) -> None:
        self.scheduler.retire(sequence, self.now)
        del self.state[sequence]

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        for sequence in self.scheduler.expired(self.now):
            assert sequence.asked.deadline_s <= self.now
            self.end(sequence)
        assert self.scheduler.next_event_s() > self.now


class SchedulerMachine(RuleBasedStateMachine):
    """Arrivals, admissions, steps, pauses, cancels and time in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.driver = Driver(LIMITS, capacity=120)
        self.scheduler = self.driver.scheduler

    def any_of(self, data: st.DataObject) -> Sequence:
        return data.draw(st.sampled_from(list(self.driver.state)))

    @rule(
        model=st.sampled_from(MODELS),
        tokens=st.integers(1, 50),
        limit=st.integers(1, 20),
        priority=priorities,
        patience_s=st.floats(0.1, 40) | st.just(float("inf")),
        reads_last_token=st.booleans(),
    )
    def arrive(
        self, model: str, tokens: int, limit: int, priority: Priority, patience_s: float, reads_last_token: bool
    ) -> None:
        new = self.driver.sequence(tokens, limit, priority, model, self.driver.now + patience_s)
        new.reads_last_token = reads_last_token
        if self.scheduler.waiting >= LIMITS.waiting:
            with pytest.raises(Overloaded) as refused:
                self.driver.submit(new)
            assert refused.value.details["retry_after_s"] >= 0
        else:
            self.driver.submit(new)

    @rule()
    def admit(self) -> None:
        self.driver.admit()

    @rule(model=st.sampled_from(MODELS), seconds=st.floats(0, 1))
    def step(self, model: str, seconds: float) -> None:
        self.driver.step(model, seconds)

    @rule(seconds=st.floats(0, 15))
    def pass_time(self, seconds: float) -> None:
        self.driver.pass_time(seconds)

    @precondition(lambda self: self.driver.state)
    @rule(data=st.data(), again=st.booleans())
    def pause(self, data: st.DataObject, again: bool) -> None:
        sequence = self.any_of(data)
        for _ in range(1 + again):
            self.driver.pause(sequence)
            assert sequence.paused

    @precondition(lambda self: self.driver.state)
    @rule(data=st.data(), again=st.booleans())
    def resume(self, data: st.DataObject, again: bool) -> None:
        sequence = self.any_of(data)
        for _ in range(1 + again):
            self.scheduler.resume(sequence, self.driver.now)
            assert not sequence.paused

    @precondition(lambda self: self.driver.state)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        self.driver.end(self.any_of(data))

    @invariant()
    def books_agree(self) -> None:
        scheduler, state = self.scheduler, self.driver.state
        counts = [list(state.values()).count(name) for name in ("waiting", "running", "parked")]
        assert [scheduler.waiting, scheduler.running, scheduler.parked] == counts
        assert scheduler.reserved_bytes == sum(s.need_bytes for s in state if state[s] != "waiting")
        for model in MODELS:
            assert set(scheduler.of_model(model)) == {s for s in state if s.model == model}
            assert scheduler.streams(model) == len(scheduler.of_model(model))
        for sequence, name in state.items():
            assert scheduler.find(sequence.id) is sequence
            assert sequence.parked == (name == "parked")
        assert scheduler.find(0) is None
        assert scheduler.next_event_s() == min((s.asked.deadline_s for s in state), default=float("inf"))

    @invariant()
    def what_victims_would_yield_is_a_sum_over_them(self) -> None:
        holders = self.scheduler._holders
        for candidate in self.driver.state:
            victims = list(holders.victims(candidate, self.driver.now))
            yields = self.scheduler.yields(candidate, self.driver.now)
            assert yields == (len(victims), sum(victim.sequence.need_bytes for victim in victims))

    @invariant()
    def limits_hold(self) -> None:
        state = self.driver.state
        for model in MODELS:
            assert sum((s.model, state[s]) == (model, "running") for s in state) <= LIMITS.running
        assert self.scheduler.reserved_bytes <= self.driver.capacity

    @invariant()
    def the_next_is_the_most_urgent_class_or_one_that_has_waited(self) -> None:
        candidate, state = self.scheduler.candidate(self.driver.now), self.driver.state
        if candidate is None:
            return
        assert state[candidate] != "running"
        earlier = [s for s in state if state[s] != "running" and not s.paused and s.model == candidate.model]
        same = [
            s for s in earlier if s.asked.priority == candidate.asked.priority and s.asked.deadline_s > self.driver.now
        ]
        assert candidate is min(same, key=lambda s: (s.asked.arrived_s, s.id)), "nobody of its class is overtaken"

    @invariant()
    def whoever_loses_memory_holds_some(self) -> None:
        youngest, state = self.scheduler.youngest(self.driver.now), self.driver.state
        assert (youngest is None) == all(name == "waiting" for name in state.values())
        assert youngest is None or state[youngest] != "waiting"


TestScheduler = SchedulerMachine.TestCase


# No sequence starves.

pressure = st.lists(
    st.tuples(st.floats(0, 3), priorities, st.integers(1, 60), st.integers(1, 8)), min_size=1, max_size=15
)


@given(pressure, priorities, st.integers(1, 3), st.integers(100, 300))
def test_whoever_waits_is_admitted_and_ends_under_any_endless_stream_of_others(
    others: list[tuple[float, Priority, int, int]], priority: Priority, places: int, capacity: int
) -> None:
    """Only sequences that arrived at most a period later for each class above get a free place before it.

    These are finitely many. That it ends shows that it resumes after each preemption, and gets on each time.
    """
    driver = Driver(Limits(waiting=20, running=places), capacity)
    for _ in range(3):
        driver.submit(driver.sequence(tokens=30, limit=8))
    patient = driver.submit(driver.sequence(tokens=60, limit=20, priority=priority))
    stream, next_s = cycle(others), 0.0
    while patient in driver.state:
        while next_s <= driver.now:
            gap_s, other, tokens, limit = next(stream)
            next_s += gap_s + 0.1
            if driver.scheduler.waiting < 20:
                driver.submit(driver.sequence(tokens, limit, other))
        first = patient not in driver.admissions
        placed = driver.admit()
        for ahead in takewhile(lambda admitted: admitted is not patient, placed if first else ()):
            classes = RANKS[priority] - RANKS[ahead.asked.priority]
            assert ahead.asked.arrived_s <= patient.asked.arrived_s + classes * AGEING_S
        driver.step("a")
        driver.pass_time(0.5)
        assert driver.now < 1000


@given(st.lists(priorities, min_size=1, max_size=30), st.data())
def test_preemption_comes_to_rest(classes: list[Priority], data: st.DataObject) -> None:
    """If no sequence ends, each place goes to higher and higher classes, until ``candidate`` has no more to offer."""
    scarce = data.draw(st.booleans())
    driver = Driver(Limits(running=2), capacity=20 if scarce else 1000)
    for priority in classes:
        driver.submit(driver.sequence(tokens=data.draw(st.integers(1, 8)), limit=2, priority=priority))
        driver.admit()
    running = [RANKS[s.asked.priority] for s, state in driver.state.items() if state == "running"]
    assert scarce or max(running) <= sorted(RANKS[priority] for priority in classes)[:2][-1]
    assert len(driver.admissions) <= 4 * len(classes)


def test_one_that_was_preempted_on_arrival_of_each_rival_still_gets_on() -> None:
    """The worst rival comes each time just as the other has got the place."""
    driver = Driver(Limits(running=1))
    low = driver.submit(driver.sequence(limit=40, priority="low"))
    while low in driver.state:
        driver.admit()
        if driver.state[low] == "running":
            driver.submit(driver.sequence(limit=4, priority="critical"))
            driver.admit()
        driver.step("a")
        driver.pass_time(1.0)
        assert driver.now < 400


def test_no_share_of_the_device_is_taken_from_a_long_prompt_that_was_admitted_for_its_waiting() -> None:
    """Its prompt takes longer than a period: dropping it before a token would make it start again for ever."""
    driver = Driver(Limits(running=1), capacity=400)
    low = driver.submit(driver.sequence(tokens=300, priority="low"))
    driver.submit(driver.sequence(limit=60, priority="critical"))
    driver.admit()
    while driver.state[low] == "waiting":
        driver.step("a")
        driver.pass_time(1.0)
        driver.admit()
    for _ in range(3):
        driver.submit(driver.sequence(priority="critical"))
        driver.pass_time(2 * AGEING_S)
        driver.admit()
        assert driver.state[low] == "running"


# One rule at a time.


@pytest.fixture
def full() -> Driver:
    """Two places, both taken by normal ones."""
    driver = Driver(Limits(running=2))
    for _ in range(2):
        driver.submit(driver.sequence(tokens=10, limit=100))
    driver.admit()
    return driver


def test_one_of_a_higher_class_takes_the_place_of_the_youngest_which_goes_on_where_it_was(full: Driver) -> None:
    older, younger = full.state
    full.step("a")
    known = younger.known
    urgent = full.submit(full.sequence(limit=1, priority="high"))
    full.admit()
    assert [full.state[s] for s in (older, younger, urgent)] == ["running", "parked", "running"]
    assert younger.known == known
    newcomer = full.submit(full.sequence())
    full.end(urgent)
    full.admit()
    assert (full.state[younger], full.state[newcomer]) == ("running", "waiting")


def test_neither_an_equal_nor_one_that_has_waited_takes_a_place(full: Driver) -> None:
    full.submit(full.sequence())
    full.submit(full.sequence(priority="low"))
    for _ in range(10):
        full.pass_time(AGEING_S)
        assert full.scheduler.candidate(full.now) is None


def test_waiting_leads_to_the_next_free_place_and_keeps_it_for_a_period(full: Driver) -> None:
    low = full.submit(full.sequence(limit=100, priority="low"))
    for _ in range(4):
        full.pass_time(3 * AGEING_S / 4)
        full.step("a")
    full.submit(full.sequence(priority="critical"))
    full.submit(full.sequence(priority="critical"))
    full.admit()
    assert full.state[low] == "waiting", "they take the places of the normal ones"
    full.end(full.admissions[-1])
    full.admit()
    assert full.state[low] == "running"
    rival = full.submit(full.sequence(priority="critical"))
    full.admit()
    assert full.state[rival] == "waiting"
    for _ in range(2):
        full.pass_time(AGEING_S / 2)
        full.step("a")
    full.admit()
    assert (full.state[low], full.state[rival]) == ("parked", "running")


def test_one_that_only_waits_for_its_last_token_is_not_put_out(full: Driver) -> None:
    older, younger = full.state
    younger.limit = 1
    full.step("a")
    assert younger.spent
    urgent = full.submit(full.sequence(priority="critical"))
    assert full.scheduler.victim(urgent, full.now, for_memory=False) is older
    older.limit = 1
    assert full.scheduler.candidate(full.now) is None, "a place is about to come free"


def test_memory_is_taken_first_from_whoever_does_not_run_then_from_the_lowest_class_then_from_the_youngest() -> None:
    driver = Driver(Limits())
    parked = driver.submit(driver.sequence(limit=9, priority="critical"))
    spent = driver.submit(driver.sequence(limit=1, priority="low"))
    low = driver.submit(driver.sequence(limit=9, priority="low"))
    older, younger = (driver.submit(driver.sequence(limit=9)) for _ in range(2))
    driver.admit()
    driver.pause(parked)
    spent.known, spent.in_flight = 1, 1
    order = []
    while (loser := driver.scheduler.youngest(driver.now)) is not None:
        order.append(loser)
        driver.drop(loser)
        driver.pause(loser)
        spent.in_flight = 1
    assert order == [parked, low, younger, older, spent]


def test_between_models_the_more_urgent_comes_first() -> None:
    driver = Driver(Limits())
    normal = driver.submit(driver.sequence(model="a"))
    high = driver.submit(driver.sequence(model="b", priority="high"))
    assert driver.admit() == [high, normal]


def test_a_large_request_is_not_overtaken_by_small_ones_that_would_fit() -> None:
    driver = Driver(Limits(), capacity=100)
    first = driver.submit(driver.sequence(tokens=50, limit=10))
    large = driver.submit(driver.sequence(tokens=80, limit=10))
    small = driver.submit(driver.sequence())
    driver.admit()
    assert [driver.state[s] for s in (first, large, small)] == ["running", "waiting", "waiting"]
    driver.end(first)
    driver.admit()
    assert [driver.state[s] for s in (large, small)] == ["running", "running"]


def test_memory_is_taken_from_lower_classes_of_any_model_only_if_that_is_enough() -> None:
    driver = Driver(Limits(), capacity=100)
    low = driver.submit(driver.sequence(tokens=40, priority="low", model="b"))
    normal = driver.submit(driver.sequence(tokens=40))
    driver.admit()
    driver.submit(driver.sequence(tokens=90, priority="normal"))
    driver.admit()
    assert [driver.state[s] for s in (low, normal)] == ["running", "running"]
    high = driver.submit(driver.sequence(tokens=30, priority="high"))
    driver.admit()
    assert [driver.state[s] for s in (low, normal, high)] == ["waiting", "running", "running"]


def test_a_paused_one_frees_its_place_and_gives_way_with_its_memory_once_nobody_runs() -> None:
    driver = Driver(Limits(running=1), capacity=100)
    paused = driver.submit(driver.sequence(tokens=60))
    driver.admit()
    driver.pause(paused)
    small = driver.submit(driver.sequence(tokens=10))
    driver.admit()
    assert (driver.state[paused], driver.state[small]) == ("parked", "running")
    large = driver.submit(driver.sequence(tokens=60))
    driver.end(small)
    driver.admit()
    assert (driver.state[paused], driver.state[large]) == ("waiting", "running")
    driver.end(large)
    driver.admit()
    assert driver.state[paused] == "waiting"
    driver.scheduler.resume(paused, driver.now)
    driver.admit()
    assert driver.state[paused] == "running"


def test_time_in_pause_is_no_waiting(full: Driver) -> None:
    paused = full.submit(full.sequence(priority="low"))
    full.pause(paused)
    full.pass_time(10 * AGEING_S)
    full.scheduler.resume(paused, full.now)
    urgent = full.submit(full.sequence(priority="high"))
    full.end(next(iter(full.state)))
    assert full.scheduler.candidate(full.now) is urgent


def test_nobody_is_started_after_its_deadline_and_the_loop_is_told_when_to_look(full: Driver) -> None:
    late = full.submit(full.sequence(priority="critical", deadline_s=1.0))
    assert full.scheduler.next_event_s() == 1.0
    assert full.scheduler.candidate(0.9) is late
    assert full.scheduler.candidate(1.0) is None
    assert full.scheduler.expired(0.9) == []
    assert full.scheduler.expired(1.0) == full.scheduler.expired(2.0) == [late]
    full.scheduler.retire(late, 2.0)
    assert full.scheduler.next_event_s() == float("inf")


def test_decoding_rows_keep_their_order_until_somebody_joins_or_leaves(full: Driver) -> None:
    while any(s.pending > 1 for s in full.state):
        full.step("a")
    order = [part.sequence for part in full.scheduler.plan("a", full.now)]
    assert order == list(full.state)
    for _ in range(5):
        full.step("a")
        assert [part.sequence for part in full.scheduler.plan("a", full.now)] == order


def test_the_last_token_in_flight_is_asked_for_once() -> None:
    driver = Driver(Limits())
    sequence = driver.submit(driver.sequence(limit=1))
    driver.admit()
    driver.step("a")
    assert sequence.spent
    assert driver.scheduler.plan("a", driver.now) == []
    driver.step("a")
    assert driver.state == {}


def test_a_sequence_that_reads_its_last_token_is_left_out_while_that_is_in_flight_and_others_are_not(
    full: Driver,
) -> None:
    while any(s.pending > 1 or not s.in_flight for s in full.state):
        full.step("a")
    waits, *others = full.state
    waits.reads_last_token = True
    for _ in range(2):
        assert [part.sequence for part in full.scheduler.plan("a", full.now)] == others
        full.step("a")
        assert [part.sequence for part in full.scheduler.plan("a", full.now)] == [waits, *others]
        full.step("a")


def test_a_prompt_is_taken_in_beside_sequences_that_take_turns_to_read_their_last_tokens() -> None:
    driver = Driver(Limits(running=4))
    first, second, _ = (driver.submit(driver.sequence(limit=1000)) for _ in range(3))
    driver.admit()
    first.reads_last_token = second.reads_last_token = True
    while first.in_flight == second.in_flight:
        driver.pause(first)
        driver.step("a")
        driver.scheduler.resume(first, driver.now)
        driver.admit()
    prompt = driver.submit(driver.sequence(tokens=30, limit=1000))
    driver.admit()
    for _ in range(10):
        driver.step("a")
    assert prompt.generated


def test_a_refused_host_is_told_how_fast_places_come_free() -> None:
    driver = Driver(Limits(waiting=1))
    for _ in range(50):
        driver.end(driver.submit(driver.sequence()))
        driver.pass_time(0.25)
    driver.submit(driver.sequence())
    with pytest.raises(Overloaded) as refused:
        driver.submit(driver.sequence())
    assert refused.value.details["retry_after_s"] == pytest.approx(0.25, rel=0.01)
