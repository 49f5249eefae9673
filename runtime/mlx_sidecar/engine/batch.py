"""What the loop steps: a batch of sequences of one model. The fake engine and the mlx engine each bring one."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from ..link.messages import Fault, FinishReason
from .sequence import Sequence


class Event(NamedTuple):
    """What one step did to one sequence: new tokens, and its end if ``reason`` is set."""

    sequence: Sequence
    tokens: list[int]
    reason: FinishReason | None = None
    fault: Fault | None = None


class Batch(Protocol):
    """Sequences that decode together. Only the step loop calls it."""

    def submit(self, sequence: Sequence) -> None:
        """Take ``sequence`` in; its prefill begins with the next step."""

    def cancel(self, sequence: Sequence) -> None:
        """Forget ``sequence``, wherever it is. No event of it follows."""

    def step(self, now: float) -> list[Event]:
        """Run one bounded operation. A failure ends the sequences it took with it as events, it does not raise."""
        ...

    def due_s(self, now: float) -> float:
        """When there is something to do: ``now`` or later on the engine's clock, infinity if never."""
        ...
