"""Who runs next. Pure: it decides over records and numbers, and knows neither mlx nor a clock of its own."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from itertools import count
from typing import TypeVar

from mlx_sidecar_protocol.errors import Overloaded

from .sequence import Sequence

Lane = TypeVar("Lane", bound=Hashable)


@dataclass(frozen=True)
class Limits:
    """Bounds of the queue, and for each model of its batch.

    ``prefilling`` sequences may always prefill at once, more only while their prompts come to ``prefill_tokens``
    together: many short prompts join in one step, and a short one does not wait behind a long one.
    """

    waiting: int = 1024
    running: int = 32
    prefilling: int = 2
    prefill_tokens: int = 512


class Scheduler:
    """First come, first served, each model up to its limits; between models that have work, turn and turn about."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._waiting: dict[str, dict[int, Sequence]] = {}
        self._running: dict[str, dict[int, Sequence]] = {}
        self._turns = count()
        self._served: dict[Hashable, int] = {}
        self._last_end_s: float | None = None
        self._between_ends_s = 1.0

    @property
    def waiting(self) -> int:
        return sum(map(len, self._waiting.values()))

    @property
    def running(self) -> int:
        return sum(map(len, self._running.values()))

    @property
    def reserved_bytes(self) -> int:
        """What the running sequences hold, with the room they are about to take."""
        return sum(sequence.need_bytes for lane in self._running.values() for sequence in lane.values())

    def streams(self, model: str) -> int:
        return len(self._waiting.get(model, ())) + len(self._running.get(model, ()))

    def youngest(self) -> Sequence | None:
        """The running sequence that was submitted last."""
        running = (sequence for lane in self._running.values() for sequence in lane.values())
        return max(running, key=lambda sequence: sequence.id, default=None)

    def of_model(self, model: str) -> list[Sequence]:
        return [*self._waiting.get(model, {}).values(), *self._running.get(model, {}).values()]

    def running_models(self) -> list[str]:
        return list(self._running)

    def find(self, id_: int) -> Sequence | None:
        for lanes in (self._waiting, self._running):
            for lane in lanes.values():
                if id_ in lane:
                    return lane[id_]
        return None

    def enqueue(self, sequence: Sequence) -> None:
        """Take ``sequence`` into the queue, or raise ``Overloaded``."""
        if self.waiting >= self._limits.waiting:
            raise Overloaded(queue=self.waiting, limit=self._limits.waiting, retry_after_s=self._between_ends_s)
        self._waiting.setdefault(sequence.model, {})[sequence.id] = sequence

    def candidate(self) -> Sequence | None:
        """The one that has waited longest of those whose model has a place. Whether memory suffices is not asked here:

        nobody overtakes it for want of memory, or a long prompt would wait for ever.
        """
        heads = (next(iter(lane.values())) for lane in self._waiting.values())
        return min(filter(self._has_place, heads), key=lambda sequence: sequence.id, default=None)

    def admit(self, sequence: Sequence, now: float) -> None:
        """Move ``sequence`` from the queue to its batch."""
        self._drop(self._waiting, sequence)
        sequence.started_s = now
        self._running.setdefault(sequence.model, {})[sequence.id] = sequence

    def retire(self, sequence: Sequence, now: float) -> None:
        """Forget ``sequence``, waiting or running."""
        self._drop(self._waiting if sequence.started_s is None else self._running, sequence)
        if self._last_end_s is not None:
            # The mean of the last few intervals is what a refused host is told to wait for.
            self._between_ends_s += 0.2 * (now - self._last_end_s - self._between_ends_s)
        self._last_end_s = now

    def next_lane(self, due_s: Mapping[Lane, float], now: float) -> Lane | None:
        """Of the lanes that are due, the one whose last turn is longest ago."""
        lane = min(
            (lane for lane, due in due_s.items() if due <= now),
            key=lambda lane: self._served.get(lane, -1),
            default=None,
        )
        # Lanes that are gone are forgotten with the others' next turn.
        self._served = {known: turn for known, turn in self._served.items() if known in due_s}
        if lane is not None:
            self._served[lane] = next(self._turns)
        return lane

    def _has_place(self, sequence: Sequence) -> bool:
        running = self._running.get(sequence.model, {}).values()
        if len(running) >= self._limits.running:
            return False
        prefilling = [len(other.tokens) for other in running if other.prefilling]
        fits = sum(prefilling) + len(sequence.tokens) <= self._limits.prefill_tokens
        return fits or len(prefilling) < self._limits.prefilling

    @staticmethod
    def _drop(lanes: dict[str, dict[int, Sequence]], sequence: Sequence) -> None:
        lane = lanes[sequence.model]
        del lane[sequence.id]
        if not lane:
            del lanes[sequence.model]
