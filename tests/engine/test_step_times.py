"""The planner knows how long steps take that overlap: the loop on a device whose costs are known, time a number."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from itertools import cycle, pairwise
from statistics import median

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlx_sidecar.engine.core.batch import Event, Role, Work
from mlx_sidecar.engine.core.sequence import Sequence
from mlx_sidecar.engine.fake.fake_engine import FakeBackend, FakeBatch
from mlx_sidecar.engine.fake.fake_script import Script
from mlx_sidecar.engine.resident_models import LoadedModel, LoadStep
from mlx_sidecar.link.control_messages import Load
from tests.engine.inline import Inline
from tests.support.synthetic_device import Costs

MODEL = "fake?tokens=100000"
STREAMS = 8
COSTS = Costs(step_s=2.0, row_s=0.2, token_s=0.2, row_depth_s=1e-4, token_depth_s=1e-4)
DECODE_S = COSTS.step_s + STREAMS * COSTS.row_s


class OverlappingBatch(FakeBatch):
    """Decode steps overlap. The thread comes back from beginning one after some share of its time, by ``stalls``.

    ``late``: a step is read before the next one is begun, else behind that.
    """

    def __init__(self, inline: Inline, stalls: Iterable[float], *, late: bool) -> None:
        super().__init__(Script.of(MODEL))
        self.ends: list[tuple[float, int]] = []  # when each step was over, and how much it prefilled
        self.read_s = 0.0
        self._inline = inline
        self._stalls = cycle(stalls)
        self._late = late
        self._flight: tuple[list[Sequence], float] | None = None
        self._free_s = 0.0

    @property
    def in_flight(self) -> bool:  # type: ignore[override]  # the fake never has one
        return self._flight is not None

    def open(self, sequence: Sequence) -> None:
        """Leave all of its prompt to be taken in."""

    def due_s(self, running: Iterable[Sequence], now: float) -> float:
        return now if self._flight or any(not sequence.spent for sequence in running) else float("inf")

    def step(self, work: list[Work], now: float) -> list[Event]:
        before, self._flight = self._flight, None
        told = self._read(before) if self._late else []
        began = self._begin(work) if work else None
        told += [] if self._late else self._read(before)
        if any(part.role is Role.PREFILL for part in work):
            return told + self._ended(began)
        self._flight = began
        return told

    def _begin(self, work: list[Work]) -> tuple[list[Sequence], float]:
        self._free_s = max(self._inline.now, self._free_s) + COSTS.of(work)
        self.ends.append((self._free_s, sum(part.tokens for part in work if part.role is Role.PREFILL)))
        self._inline.now += next(self._stalls) * COSTS.of(work)
        sampling = [part.sequence for part in work if part.samples]
        for part in work:
            part.sequence.known += part.tokens
        for sequence in sampling:
            sequence.in_flight += 1
        return sampling, self._free_s

    def _read(self, flight: tuple[list[Sequence], float] | None) -> list[Event]:
        told = self._ended(flight)
        self.read_s = self._inline.now
        return told

    def _ended(self, flight: tuple[list[Sequence], float] | None) -> list[Event]:
        if flight is None:
            return []
        sequences, end_s = flight
        self._inline.now = max(self._inline.now, end_s)
        for sequence in sequences:
            sequence.in_flight -= 1
            sequence.generated.append(0)
        return [
            Event(sequence, [0], "length" if len(sequence.generated) == sequence.limit else None)
            for sequence in sequences
        ]


class OverlappingBackend(FakeBackend):
    batch: OverlappingBatch

    def load(self, load: Load) -> Generator[LoadStep, None, LoadedModel]:
        return (yield from super().load(load))._replace(batch=self.batch)


def turn_until(inline: Inline, reached: Callable[[], bool]) -> None:
    for _ in range(2_000):
        if reached():
            return
        inline.turn()
    pytest.fail("it does not get on")


@given(st.lists(st.floats(0, 0.95), min_size=1, max_size=9), st.booleans(), st.integers(0, 40))
@settings(max_examples=10)
def test_streams_wait_as_long_as_they_may_and_no_longer_wherever_the_thread_is_held_up(
    stalls: list[float], late: bool, alone: int
) -> None:
    backend = OverlappingBackend()
    inline = Inline(1 << 40, backend=backend)
    batch = backend.batch = OverlappingBatch(inline, stalls, late=late)
    inline.load(MODEL)
    for seq in range(1, STREAMS + 1):
        inline.submit(seq, MODEL, 32, 1 << 20)
    turn_until(inline, lambda: len(inline.tokens(STREAMS)) > alone)
    begun = len(batch.ends)
    inline.submit(STREAMS + 1, MODEL, 3_000, 1)
    turn_until(inline, lambda: inline.ended(STREAMS + 1))
    gaps = [
        (end_s - before_s) / DECODE_S for (before_s, _), (end_s, tokens) in pairwise(batch.ends[begun + 8 :]) if tokens
    ]
    assert max(gaps) <= 3.0
    assert median(gaps) >= 1.6, "else the prompt would take longer than it must"
    inline.close()


@pytest.mark.parametrize("late", [False, True])
def test_a_step_that_is_only_begun_is_counted_once_it_is_read(late: bool) -> None:
    backend = OverlappingBackend()
    inline = Inline(1 << 40, backend=backend)
    backend.batch = OverlappingBatch(inline, [0.0, 0.9], late=late)
    inline.load(MODEL)
    inline.submit(1, MODEL, 2, 4)
    turn_until(inline, lambda: inline.ended(1))
    took = inline.stats().histograms["decode_step_s"]
    assert sum(count for _, count in took) == 3, "one of the four tokens is the prompt's"
    inline.close()
