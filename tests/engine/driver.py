"""Drives a batch by itself, without scheduler and loop."""

from __future__ import annotations

from mlx_sidecar.engine.core.batch import Event, Role, Work
from mlx_sidecar.engine.core.sequence import Sequence
from mlx_sidecar.engine.execution.mlx_batch import MlxBatch

CHUNK = 48


class Driver:
    """The loop at its simplest: all sequences take part in every step, prompts in chunks."""

    def __init__(self, batch: MlxBatch) -> None:
        self.batch = batch
        self.running: list[Sequence] = []
        self.events: list[Event] = []
        self.passes = 0

    def add(self, *sequences: Sequence) -> None:
        for new in sequences:
            self.batch.open(new)
            self.running.append(new)

    def end(self, sequence: Sequence, *, keep: bool = False) -> None:
        self.batch.close(sequence, keep=keep)
        self.running.remove(sequence)

    def step(self) -> list[Event]:
        ready = [s for s in self.running if not (s.idle or s.spent)]
        work = [Work(s, min(s.pending, CHUNK), Role.DECODE if s.pending == 1 else Role.PREFILL) for s in ready]
        if self.batch.in_flight and any(given.role is Role.PREFILL for given in work):
            work = []
        self.passes += bool(work)
        events = self.batch.step(work, 0.0)
        for event in events:
            event.sequence.times.first_token_s = 0.0
            if event.reason is not None:
                self.end(event.sequence)
        self.events += events
        return events

    def drain(self) -> None:
        while self.batch.due_s([s for s in self.running if not s.idle], 0.0) == 0.0:
            self.step()
