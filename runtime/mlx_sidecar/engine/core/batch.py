"""A batch is what the loop steps: the sequences of one model. The fake engine and the mlx engine each bring one."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from typing import NamedTuple, Protocol

from mlx_sidecar_protocol.errors import OutOfMemory

from ...link.messages import Fault, FinishReason, TokenLogprob
from .sequence import Sequence


class Role(Enum):
    """What the planner gives a sequence a part in a step for. Everything that must know reads it here."""

    PREFILL = "prefill"  # some of a prompt is taken in, and the last of it samples
    DECODE = "decode"  # the newest token is taken in, and the next one sampled


class Work(NamedTuple):
    """The next ``tokens`` of ``sequence`` are taken in by the model in one step; ``role`` says to what end.

    If these are all that are pending, it samples one more. So a decode step is one token, and a prefill is one or
    more steps of which the last samples the first token.
    """

    sequence: Sequence
    tokens: int
    role: Role

    @property
    def samples(self) -> bool:
        return self.tokens == self.sequence.pending


class Event(NamedTuple):
    """One step gave a sequence new ``tokens``, and ended it if ``reason`` is set.

    ``logprobs`` has an entry for each token where the sequence asked for them.
    """

    sequence: Sequence
    tokens: list[int]
    reason: FinishReason | None = None
    fault: Fault | None = None
    logprobs: list[TokenLogprob] | None = None


class StepFailed(Exception):
    """A step failed and took with it what its batch held of all its sequences.

    None of them has a place any more, and the batch is as good as new. ``running`` took part in it or were in flight,
    or stand for what could not be opened; ``released_bytes`` is what had been kept. ``fault`` is ``out_of_memory`` if
    an allocation failed.
    """

    def __init__(self, fault: Fault, running: list[Sequence], released_bytes: int = 0) -> None:
        super().__init__(fault.message)
        self.fault = fault
        self.running = running
        self.released_bytes = released_bytes

    @property
    def for_memory(self) -> bool:
        return self.fault.kind == OutOfMemory.kind


class Batch(Protocol):
    """The sequences of one model that have a place on the device. Only the step loop calls it.

    ``step`` alone raises: what goes wrong in the other methods fails the next step.
    """

    def open(self, sequence: Sequence) -> None:
        """Give ``sequence`` a place, after its arrival or after its cache was dropped.

        Sets its ``known`` to the tokens that the cache holds already, whether it ``reads_last_token``, and on arrival
        its ``cached_tokens``.
        """

    def close(self, sequence: Sequence, *, keep: bool) -> None:
        """Take its place away; no event of it follows. ``keep`` what was computed, for sequences that begin alike."""

    def share(self, sequence: Sequence, tokens: int) -> None:
        """Others wait for the first ``tokens`` of ``sequence``, and will go on there."""

    def step(self, work: list[Work], now: float) -> list[Event]:
        """Run one bounded operation, and tell what has come of this or, where steps overlap, of the one before it.

        While a step is in flight, prefill may not be asked for: give no work first. Nor may a step of a sequence that
        ``awaits_token``. Advances ``known``, ``in_flight`` and ``generated`` of the sequences. Empty ``work`` reads
        what is in flight. Raises ``StepFailed``, and then has told everything that ``generated`` says.
        """
        ...

    def due_s(self, running: Iterable[Sequence], now: float) -> float:
        """When there is something to do, where ``running`` are the sequences that have a place: ``now`` or later on the
        engine's clock, infinite if there is nothing."""
        ...

    @property
    def in_flight(self) -> bool:
        """Whether a step has been started whose tokens have not been told yet."""
        ...

    @property
    def reclaimable_bytes(self) -> int:
        """Memory of sequences that have left, which the next ones may have; ``release`` gives it back."""
        ...

    def release(self) -> None:
        """Give back what is kept."""
