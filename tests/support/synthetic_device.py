"""A device whose costs are known, and a planner that learns them step by step. Time is a number."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from itertools import count

from mlx_sidecar.engine.core.batch import Role, Work
from mlx_sidecar.engine.core.sequence import Sequence
from mlx_sidecar.engine.scheduling.priority_queue import QueueEntry
from mlx_sidecar.engine.scheduling.step_planner import StepPlanner
from tests.support.sequences import sequence_of


@dataclass(frozen=True)
class Costs:
    """Seconds of a step, of each row that decodes, of each token of prefill, and of both for a token of depth.

    Attention sees ``window`` tokens at most. ``noise`` is relative; ``outliers`` is the share of steps that take from
    two to a thousand times as long.
    """

    step_s: float = 0.004
    row_s: float = 0.0005
    token_s: float = 0.0005
    row_depth_s: float = 5e-7
    token_depth_s: float = 5e-7
    window: int = 1 << 30
    noise: float = 0.0
    outliers: float = 0.0

    def of(self, work: list[Work]) -> float:
        """Return the seconds of ``work``, which is not done yet, without noise."""
        took_s = self.step_s
        for sequence, tokens, role in work:
            depth = min(self.window, sequence.known + tokens / 2)
            if role is Role.DECODE:
                took_s += self.row_s + self.row_depth_s * depth
            else:
                took_s += tokens * (self.token_s + self.token_depth_s * depth)
        return took_s


@dataclass
class Simulation:
    """Steps of one model on a device with ``costs``. Answers end at their sequences' limits."""

    costs: Costs
    seed: int = 0
    planner: StepPlanner = field(default_factory=StepPlanner)
    running: dict[int, QueueEntry] = field(default_factory=dict, repr=False)
    now: float = 0.0
    steps: list[tuple[list[Work], float, float]] = field(
        default_factory=list, repr=False
    )  # work, its seconds, those of decoding
    first_s: dict[int, float] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        self._source = random.Random(self.seed)
        self._ids = count(1)

    def submit(self, tokens: int, limit: int = 1 << 20) -> Sequence:
        sequence = sequence_of(next(self._ids), [1] * tokens, limit, arrived_s=self.now)
        self.running[sequence.id] = QueueEntry(sequence, self.now)
        return sequence

    def step(self) -> list[Work]:
        """Plan a step and run it; ``steps`` notes its seconds without noise."""
        work = self.planner.plan({"m": self.running}, "m", self.now, 1)
        clean_s = self.costs.of(work)
        decoding = [part for part in work if part.role is Role.DECODE]
        self.steps.append((work, clean_s, self.costs.of(decoding) if decoding else 0.0))
        for sequence, tokens, _ in work:
            samples = tokens == sequence.pending
            sequence.known += tokens
            if samples:
                sequence.generated.append(1)
                self.first_s.setdefault(sequence.id, self.now + clean_s)
            if len(sequence.generated) == sequence.limit:
                del self.running[sequence.id]
        self.planner.account("m", work, clean_s * self._slower())
        self.now += clean_s
        return work

    def _slower(self) -> float:
        if self._source.random() < self.costs.outliers:
            return float(10 ** self._source.uniform(0.3, 3))
        return max(0.2, self._source.gauss(1.0, self.costs.noise))
