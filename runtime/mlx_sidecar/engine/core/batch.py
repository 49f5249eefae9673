"""A batch has the sequences of one model, and the loop steps it. The fake and the mlx engine each bring one."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from typing import NamedTuple, Protocol

from mlx_sidecar_protocol.errors import OutOfMemory

from ...link.messages import Effort, Fault, FinishReason, TokenLogprob
from .sequence import Sequence


class Role(Enum):
    """The purpose of a sequence's part in a step, as the planner sets it, or the batch where it has proposals."""

    PREFILL = "prefill"  # some of a prompt is taken in, and the last of it samples
    DECODE = "decode"  # the newest token is taken in, and the next one sampled
    VERIFY = "verify"  # proposed tokens are taken in behind the newest one, and as many as are right are kept


class Work(NamedTuple):
    """The model takes in the next ``tokens`` of ``sequence`` in one step; ``role`` says to what end.

    If no more are pending, the step samples one. So a decode step is one token, and a prefill is one or more steps of
    which the last samples the first token. A verify step samples behind each of its tokens.
    """

    sequence: Sequence
    tokens: int
    role: Role

    @property
    def samples(self) -> bool:
        return self.role is Role.VERIFY or self.tokens == self.sequence.pending


class Event(NamedTuple):
    """One step gave a sequence new ``tokens``, and ended it if ``reason`` is set.

    ``logprobs`` has an entry for each token where the sequence asked for them. ``effort`` says how a constraint and
    proposals had their part in it; None where they had none. ``vector`` is the result of a goal that wants one.
    """

    sequence: Sequence
    tokens: list[int]
    reason: FinishReason | None = None
    fault: Fault | None = None
    logprobs: list[TokenLogprob] | None = None
    effort: Effort | None = None
    vector: bytes = b""


class StepFailed(Exception):
    """A step failed, and its batch has lost the caches of all its sequences.

    None of them has a place any more, and the batch is as good as new. ``running`` took part in the step, were in
    flight, or could not be opened. ``released_bytes`` had been kept for later sequences. ``fault`` is
    ``out_of_memory`` if an allocation failed.
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

    ``step`` alone raises: an error in another method fails the next step.
    """

    def open(self, sequence: Sequence) -> None:
        """Give ``sequence`` a place, after its arrival or after its cache was dropped.

        Sets its ``known`` to the tokens that the cache holds already, whether it ``reads_last_token``, and on arrival
        its ``cached_tokens``.
        """

    def close(self, sequence: Sequence, *, keep: bool) -> None:
        """Take the place of ``sequence`` away; no event of it follows.

        ``keep``: its computed prefix stays in the cache, for sequences that begin alike.
        """

    def share(self, sequence: Sequence, tokens: int) -> None:
        """Note that other sequences wait for the first ``tokens`` of ``sequence``, and will go on there."""

    def step(self, work: list[Work], now: float) -> list[Event]:
        """Run one bounded operation, and return its events or, where steps overlap, those of the step before.

        Empty ``work`` reads the step in flight. While there is one, ``work`` may not prefill: read it first. Nor may
        it have a sequence that ``awaits_token``. Afterwards ``work`` is what was begun: without the sequences that have
        ended, and with the role ``VERIFY`` for those that had tokens proposed. Advances ``known``, ``in_flight`` and
        ``generated`` of the sequences. When it raises ``StepFailed``, events have been returned for all tokens in
        ``generated``.
        """
        ...

    def due_s(self, running: Iterable[Sequence], now: float) -> float:
        """Return when there is something to do for ``running``, the sequences that have a place.

        That is ``now`` or later, in seconds of the engine's clock; infinite if there is nothing.
        """
        ...

    @property
    def in_flight(self) -> bool:
        """Whether a step has been started whose tokens have not been told yet."""
        ...

    @property
    def read_s(self) -> float:
        """When the step that was in flight before the last call was over, in seconds of the engine's clock."""
        ...

    @property
    def reclaimable_bytes(self) -> int:
        """Bytes kept of sequences that have left, for the next ones; ``release`` gives them back."""
        ...

    def release(self) -> None:
        """Give back the kept memory."""
