"""Preparers set sequences aside, and the scheduler admits none that one of them still waits for."""

from __future__ import annotations

from collections.abc import Iterable
from math import inf

import pytest

from mlx_sidecar.engine.core.memory_ledger import MemoryLedger
from mlx_sidecar.engine.core.preparer import Ending, Preparer
from mlx_sidecar.engine.core.sequence import Sequence
from mlx_sidecar.engine.preparation import Preparation
from mlx_sidecar.engine.scheduling.scheduler import Limits, Scheduler
from mlx_sidecar_protocol.errors import InvalidParams
from tests.support.sequences import sequence_of


class Scripted(Preparer):
    """Sets aside what arrives, or what is about to be admitted, until it is told of it."""

    def __init__(self, name: str, *, on_arrival: bool = True) -> None:
        self.name = name
        self.deadline_s = inf
        self._on_arrival = on_arrival
        self.waiting: list[Sequence] = []
        self._there: list[Sequence] = []

    def arrived(self, sequence: Sequence, now: float) -> bool:
        return self._on_arrival and self._set_aside(sequence)

    def holds_back(self, candidate: Sequence, now: float) -> bool:
        return not self._on_arrival and candidate not in self._there and self._set_aside(candidate)

    def told(self, event: object, now: float) -> None:
        if event == self.name:
            self._there, self.waiting = self.waiting, []

    def ready(self, now: float) -> Iterable[Sequence]:
        return self._there

    def endings(self) -> Iterable[Ending]:
        return [Ending(sequence, "stop") for sequence in self.waiting if self.deadline_s < inf]

    def left(self, sequence: Sequence) -> None:
        if sequence in self.waiting:
            self.waiting.remove(sequence)

    def next_event_s(self) -> float:
        return self.deadline_s

    def _set_aside(self, sequence: Sequence) -> bool:
        self.waiting.append(sequence)
        return True


class Never(Preparer):
    """Refuses every sequence."""

    name = "never"

    def check(self, sequence: Sequence) -> None:
        raise InvalidParams.field("tokens", "no")


@pytest.fixture
def scheduler() -> Scheduler:
    return Scheduler(Limits(), MemoryLedger(1 << 30))


def arrived(scheduler: Scheduler, preparation: Preparation) -> Sequence:
    sequence = sequence_of(1, [1], 4)
    scheduler.enqueue(sequence, 0.0)
    preparation.arrived(sequence, 0.0)
    return sequence


def test_a_sequence_waits_for_all_that_prepare_it(scheduler: Scheduler) -> None:
    one, other = Scripted("one"), Scripted("other")
    preparation = Preparation(scheduler, [one, other])
    sequence = arrived(scheduler, preparation)
    for name in ("one", "other"):
        assert scheduler.candidate(1.0) is None
        preparation.told(name, 1.0)
        preparation.resume(1.0)
    assert scheduler.candidate(1.0) is sequence


def test_a_pause_of_the_host_outlasts_a_wait_and_the_other_way_round(scheduler: Scheduler) -> None:
    one = Scripted("one")
    preparation = Preparation(scheduler, [one])
    sequence = arrived(scheduler, preparation)
    scheduler.pause(sequence, 1.0)
    preparation.told("one", 2.0)
    preparation.resume(2.0)
    assert scheduler.candidate(2.0) is None
    scheduler.resume(sequence, 3.0)
    assert scheduler.candidate(3.0) is sequence


def test_a_candidate_that_is_held_back_is_offered_again_when_it_is_ready(scheduler: Scheduler) -> None:
    late = Scripted("late", on_arrival=False)
    preparation = Preparation(scheduler, [late])
    sequence = arrived(scheduler, preparation)
    assert scheduler.candidate(1.0) is sequence
    assert preparation.holds_back(sequence, 1.0)
    assert scheduler.candidate(1.0) is None
    preparation.told("late", 2.0)
    preparation.resume(2.0)
    assert scheduler.candidate(2.0) is sequence
    assert not preparation.holds_back(sequence, 2.0)


def test_nothing_is_prepared_for_a_sequence_that_has_left(scheduler: Scheduler) -> None:
    one = Scripted("one")
    preparation = Preparation(scheduler, [one])
    sequence = arrived(scheduler, preparation)
    preparation.left(sequence)
    scheduler.retire(sequence, 1.0)
    preparation.told("one", 2.0)
    preparation.resume(2.0)
    assert scheduler.candidate(2.0) is None


def test_a_sequence_that_cannot_be_prepared_after_all_is_named_with_its_end(scheduler: Scheduler) -> None:
    one, other = Scripted("one"), Scripted("other")
    preparation = Preparation(scheduler, [one, other])
    sequence = arrived(scheduler, preparation)
    assert preparation.endings() == []
    other.deadline_s = 1.0
    assert preparation.endings() == [Ending(sequence, "stop")]


def test_the_first_refusal_is_the_answer_and_the_first_deadline_wakes_the_loop(scheduler: Scheduler) -> None:
    one, other = Scripted("one"), Scripted("other")
    one.deadline_s, other.deadline_s = 7.0, 5.0
    assert Preparation(scheduler, [one, other]).next_event_s() == 5.0
    assert Preparation(scheduler, []).next_event_s() == inf
    with pytest.raises(InvalidParams):
        Preparation(scheduler, [one, Never()]).check(sequence_of(1, [1], 4))
