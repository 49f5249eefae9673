"""Completion makes the messages that tell the front of a sequence's tokens and of its end."""

from __future__ import annotations

from mlx_sidecar_protocol.errors import OutOfMemory

from ..link.faults import fault_of
from ..link.messages import Dropped, Fault, Finished, FinishReason, Generate, ToFront, Tokens
from .admission import Admission
from .core.batch import Event, StepFailed
from .core.instrumentation import Instrumentation
from .core.sequence import Sequence
from .prefix.pins import Pins
from .preparation import Preparation
from .resident_models import ResidentModels
from .scheduling.scheduler import Scheduler


class Completion:
    """Takes sequences out of the scheduler's books: no other part does. Times are seconds of the engine's clock."""

    def __init__(
        self,
        scheduler: Scheduler,
        models: ResidentModels,
        admission: Admission,
        instrumentation: Instrumentation,
        preparation: Preparation,
        pins: Pins,
    ) -> None:
        self._scheduler = scheduler
        self._models = models
        self._admission = admission
        self._instrumentation = instrumentation
        self._preparation = preparation
        self._pins = pins

    def tell(self, event: Event, now: float) -> list[ToFront]:
        """Return the messages about ``event``, which a step brought."""
        sequence = event.sequence
        messages: list[ToFront] = []
        if event.tokens:
            if isinstance(sequence.asked.goal, Generate):
                messages.append(Tokens(sequence.id, event.tokens, event.logprobs, event.effort))
            self._instrumentation.generated(sequence, len(event.tokens), now)
            if sequence.times.first_token_s is None:
                sequence.times.first_token_s = now
            sequence.times.last_token_s = now
        if event.reason is not None:
            messages.append(self.retire(sequence, event.reason, now, event.fault, event.vector))
        return messages

    def retire(
        self, sequence: Sequence, reason: FinishReason, now: float, fault: Fault | None = None, vector: bytes = b""
    ) -> Finished:
        """End ``sequence``, in whatever state. The prefix cache keeps what was computed of it."""
        resident = self._models.resident(sequence.model)
        resident.loaded.batch.close(sequence, keep=reason != "error")
        pinned = self._pins.pin(sequence) if reason == "length" else 0
        resident.last_used_s = now
        self.forget(sequence, now)
        self._instrumentation.ended(sequence, reason, now)
        return Finished(
            sequence.id,
            reason,
            started=sequence.times.started_s is not None,
            timing=sequence.timing(now),
            cached_tokens=sequence.cached_tokens,
            cached_disk=sequence.cached_disk,
            uncacheable=resident.loaded.uncacheable,
            pinned=pinned,
            nearest=sequence.prefix.nearest,
            fault=fault,
            stop_token=sequence.stopped_by if reason == "stop" else None,
            complete=sequence.constraint.complete if sequence.constraint and sequence.asked.has_form else None,
            vector=vector,
        )

    def forget(self, sequence: Sequence, now: float) -> None:
        """Take ``sequence`` out of the books, in whatever state, without a message to the front."""
        self._preparation.left(sequence)
        self._scheduler.retire(sequence, now)

    def failed(self, model: str, failure: StepFailed, now: float) -> list[ToFront]:
        """Return the messages about a failed step of ``model``.

        For want of memory its sequences wait, and the front hears nothing of it, unless one cannot run on this machine.
        After another failure all that held a cache are dropped, because the one at fault is not known here.
        """
        if failure.for_memory:
            ended = self._admission.allocation_failed(model, failure, now)
            return [] if ended is None else [self._too_large(ended, failure.fault, now)]
        lost = self._scheduler.holders_of(model)
        self._models.resident(model).last_used_s = now
        for sequence in lost:
            self.forget(sequence, now)
        self._instrumentation.dropped(lost, now)
        return [
            Dropped([sequence.id for sequence in lost], [sequence.id for sequence in failure.running], failure.fault)
        ]

    def out_of_memory(self, sequence: Sequence, have_bytes: int, now: float) -> Finished:
        """End a sequence that cannot run on this machine."""
        error = OutOfMemory(need_bytes=sequence.need_bytes, have_bytes=max(0, have_bytes))
        return self._too_large(sequence, fault_of(error), now)

    def _too_large(self, sequence: Sequence, fault: Fault, now: float) -> Finished:
        self._instrumentation.metrics.count("refused_for_memory")
        return self.retire(sequence, "error", now, fault)
