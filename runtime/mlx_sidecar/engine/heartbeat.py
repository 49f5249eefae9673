"""The loop notes each operation, and the sequences that would be lost with it, on a page that the front reads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..link.heartbeat_page import HeartbeatPage

# A step may take so many times as long as steps like it, because another process may have the machine for a while.
FACTOR = 20.0
# Where nothing was measured a kernel may have to be compiled and weights to be read, from a slow disk at worst.
UNMEASURED_S = 60.0
SLOWEST_BYTES_PER_S = 100e6
# The memory of a model that rested for so long may have been paged out: its first step is like one of a new model.
RESTED_S = 60.0
# A test that lowers the floor is not to wait a minute for the rest either.
UNMEASURED_FLOORS = 6.0


@dataclass(frozen=True)
class StallDeadline:
    """Seconds after which an operation is taken for a hang: at least ``stall_after_s``."""

    stall_after_s: float

    def step_s(self, expected_s: float | None, model_bytes: int) -> float:
        """Seconds for a step of a model of so many bytes that should take ``expected_s``; None if that is not known."""
        if expected_s is None:
            return self.unmeasured_s(model_bytes)
        return max(self.stall_after_s, FACTOR * expected_s)

    def unmeasured_s(self, size_bytes: int) -> float:
        """Seconds for a step of a load, or a first one, that may have to read ``size_bytes``."""
        base_s = min(UNMEASURED_S, UNMEASURED_FLOORS * self.stall_after_s)
        return max(self.stall_after_s, base_s + size_bytes / SLOWEST_BYTES_PER_S)


class Heartbeat:
    """Keeps the page that tells the front what the engine works on.

    A step in flight outlasts its operation, and several models may each have one. So the page names the sequences of
    the operation and those of all steps in flight. ``in_flight`` tells whether a model has one.
    """

    def __init__(self, page: HeartbeatPage, in_flight: Callable[[str], bool]) -> None:
        self._page = page
        self._in_flight = in_flight
        self._flying: dict[str, tuple[list[int], float]] = {}  # by model: sequences and bound of its newest step
        self._taken = 0

    def begin_step(self, model: str, ids: list[int], bound_s: float) -> None:
        """Note a step of the sequences ``ids``; they are none where the step in flight is only read."""
        flown, flown_s = self._flying.get(model, ([], bound_s))
        if not ids:
            ids, bound_s = flown, flown_s
        self._flying[model] = ids, bound_s
        named = self._ids()
        if flown != ids:
            named = named + [id_ for id_ in flown if id_ not in ids]
        self._page.begin("step", named, max(bound_s, flown_s))  # it may wait for the one before

    def begin_load(self, ops: list[int], bound_s: float) -> None:
        self._page.begin("load", ops, bound_s)

    def begin_message(self, seq: int, bound_s: float) -> None:
        self._page.begin("message", [seq, *self._ids()], bound_s)

    def end(self, now: float) -> None:
        """Note that the operation is over, at ``now``. Steps still in flight stay on the page."""
        self._land()
        self._page.end(now, self._ids())

    def note(self, *, taken: int = 0, models: int) -> None:
        """Note that ``taken`` more messages have been dealt with, and that ``models`` are resident."""
        if self._flying:
            self._land()
            if not self._flying:  # its sequences have ended
                self._page.landed()
        self._taken += taken
        self._page.note(taken=self._taken, models=models)

    def _land(self) -> None:
        """Forget the steps that are no longer in flight."""
        for model in [model for model in self._flying if not self._in_flight(model)]:
            del self._flying[model]

    def _ids(self) -> list[int]:
        flights = self._flying.values()
        if len(flights) == 1:  # nearly always, and before every step
            return next(iter(flights))[0]
        return [id_ for ids, _ in flights for id_ in ids]
