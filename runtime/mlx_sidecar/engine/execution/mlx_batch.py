"""The batch of a real model makes one pass over a step's tokens, and samples once for all rows that are due one."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import NamedTuple, cast

import mlx.core as mx

from mlx_sidecar_protocol.errors import InternalError, NonFiniteLogits

from ...link.faults import fault_of
from ...link.messages import FinishReason, TokenLogprob
from ..cache.prefixes import NOTHING, Prefixes
from ..cache.segment import BLOCK
from ..core.batch import Event, Role, StepFailed, Work
from ..core.oom_backoff import out_of_memory
from ..core.sequence import Sequence
from .flight import Flight, Late, inputs
from .forward import NEXT_TOKEN, NOTHING_WANTED, Forward, LateOutput, Part, StepInput
from .native.forward import allocated_bytes
from .sampler import FACTORIES, NativelySampled, ProcessorFactory, Sampled, Sampler
from .soundness import sound

log = logging.getLogger(__name__)

# Freed buffers that mlx keeps for reuse are of the sizes of caches that grow: now and then the old ones have to go.
_STEPS_BETWEEN_CLEARINGS = 512


class _Broken(NamedTuple):
    """An ``error`` that fails the next step: from opening, closing or a step of ``sequences``, or a release."""

    error: Exception
    sequences: list[Sequence]


class MlxBatch:
    """The rows of one model.

    Where a step only decodes, the next one is started before it is read. Its tokens go from one to the next on the
    device, so the device does not wait for Python.
    """

    def __init__(
        self,
        forward: Forward,
        vocabulary: int,
        limit_bytes: int,
        prefixes: Prefixes | None = None,
        *,
        processors: tuple[ProcessorFactory, ...] = FACTORIES,
    ) -> None:
        """Errors tell how much of the device's ``limit_bytes`` was left. ``processors`` change logits before sampling.

        Rows begin with their cached blocks in ``prefixes``, and computed blocks go there.
        """
        self._forward = forward
        self._prefixes = prefixes
        forward.captured = prefixes is not None
        self._vocabulary = vocabulary
        self._processors = processors
        self._sampler = Sampler(vocabulary, processors)
        self._limit_bytes = limit_bytes
        self._sequences: dict[int, Sequence] = {}
        self._flight: Flight | None = None
        self._broken: _Broken | None = None
        self._steps = 0

    @property
    def in_flight(self) -> bool:
        return self._flight is not None

    @property
    def reclaimable_bytes(self) -> int:
        return self._forward.reclaimable_bytes

    def release(self) -> None:
        try:
            self._forward.release()
        except Exception as error:  # noqa: BLE001 - the next step fails with it
            self._broken = self._broken or _Broken(error, [])
            if not self._sequences:
                self._reset_broken()

    def open(self, sequence: Sequence) -> None:
        self._sequences[sequence.id] = sequence
        try:
            self._open(sequence)
        except Exception as error:  # noqa: BLE001 - the next step fails with it
            self._broken = self._broken or _Broken(error, [sequence])

    def _open(self, sequence: Sequence) -> None:
        history = sequence.history()
        match = NOTHING if self._prefixes is None else self._prefixes.find(history, sequence.prefix.fetched)
        self._forward.open(sequence.id, len(history), match)
        if self._prefixes is not None:
            self._forward.checkpoint_at(sequence.id, self._prefixes.checkpoint_at(history))
        sequence.known = match.length
        sequence.cached_upto = match.length // BLOCK * BLOCK
        if sequence.times.started_s is None:
            sequence.cached_tokens, sequence.cached_disk = match.length, match.disk
        prompt = len(sequence.tokens) - sequence.emitted
        answer = sequence.tokens[prompt:] + sequence.generated
        self._sampler.open(sequence.id, sequence.sampling, sequence.tokens[:prompt], answer)
        sequence.reads_last_token = self._sampler.reads_last_token(sequence.id)

    def close(self, sequence: Sequence, *, keep: bool) -> None:
        if self._sequences.pop(sequence.id, None) is None:
            return  # a step that failed took it
        if self._flight is not None:
            flying = self._flight.sequences
            flying[:] = [None if other is sequence else other for other in flying]
        try:
            if self._broken is None:
                self._close(sequence, keep=keep)
        except Exception as error:  # noqa: BLE001 - the next step fails with it
            self._broken = _Broken(error, [sequence])
        sequence.known = sequence.in_flight = 0
        if not self._sequences:
            self._flight = None
            self._reset_broken()

    def _reset_broken(self) -> None:
        """Start anew if anything is broken, because no sequence is left whose step would fail with it."""
        if self._broken is not None:
            log.error("the batch is broken", exc_info=self._broken.error)
            self._reset()

    def _close(self, sequence: Sequence, *, keep: bool) -> None:
        if keep:
            # What is computed apart is not there yet.
            flying = sequence.in_flight if self._forward.computes_apart else 0
            self._capture(sequence, min(sequence.known - flying, len(sequence.history())))
        self._forward.close(sequence.id)
        self._sampler.close(sequence.id)

    def _capture(self, sequence: Sequence, stop: int) -> None:
        """Put the first ``stop`` tokens of a row into the prefix cache, as far as they are missing there."""
        prefixes, start = self._prefixes, sequence.cached_upto
        if prefixes is None or stop <= start:
            return
        history = sequence.history()
        if not prefixes.spec.checkpoints:  # where another has computed the same, nothing need be copied
            start = max(start, prefixes.lacks(history, stop))
        if start < stop:
            segments = self._forward.capture(sequence.id, start, stop)
            # A token that was chosen proves the state before it. Of a prompt there is no token yet, and its step is
            # waited for anyway.
            if sequence.generated or all(map(sound, segments)):
                prefixes.put(history, segments)
        sequence.cached_upto = stop // BLOCK * BLOCK

    def _capture_blocks(self, work: list[Work]) -> None:
        """Capture the blocks of prompts that a step completed, and the blocks of answers that a window will drop."""
        if self._prefixes is None:
            return
        for sequence, _, role in work:
            if role is Role.PREFILL or self._prefixes.spec.window_evicts:
                self._capture(sequence, min(sequence.known, len(sequence.history())) // BLOCK * BLOCK)

    def share(self, sequence: Sequence, tokens: int) -> None:
        if sequence.id in self._sequences and self._broken is None:
            self._forward.checkpoint_at(sequence.id, tokens)

    def due_s(self, running: Iterable[Sequence], now: float) -> float:
        runnable = any(not sequence.spent for sequence in running)
        return now if runnable or self._flight or self._broken else float("inf")

    def step(self, work: list[Work], now: float) -> list[Event]:
        try:
            return self._step(work)
        except Exception as error:  # noqa: BLE001 - logged and told
            failed = self._failed(error, work)
        # Here nothing holds on to the frames of the failure any more, nor to the arrays in them.
        self._reset()
        raise failed

    def _step(self, work: list[Work]) -> list[Event]:
        if self._broken is not None:
            raise self._broken.error
        before, self._flight = self._flight, None
        if not self._forward.computes_apart or before is None:
            return self._go_on(work, before)
        told = self._read(before)
        try:
            return told + self._go_on(_going_on(work, told), None)
        except Exception as error:  # noqa: BLE001 - the next step fails with it, because these tokens must be told
            self._broken = _Broken(error, [given.sequence for given in work])
            return told

    def _go_on(self, work: list[Work], before: Flight | None) -> list[Event]:
        """Start ``work`` and return the events of ``before``, or those of ``work`` where steps do not overlap."""
        if not work:
            return self._read(before)
        # A step that prefills takes long: a request that arrives now waits for that one only, not for one more.
        decodes = all(given.role is Role.DECODE for given in work)
        assert decodes or before is None
        assert not any(given.sequence.awaits_token for given in work)
        # Where all rows wait for their tokens, no step can be started before this one is read.
        overlaps = decodes and not all(given.sequence.reads_last_token for given in work)
        if self._forward.computes_apart:
            return self._step_apart(work, overlaps=overlaps)
        self._flight = self._launch(work, before)
        self._capture_blocks(work)
        return self._read(before) + ([] if overlaps else self._read_flight())

    def _step_apart(self, work: list[Work], *, overlaps: bool) -> list[Event]:
        """Start ``work``, and read it unless steps overlap. Only what is computed for certain is captured."""
        self._capture_blocks(work)
        self._flight = self._launch(work, None)
        if overlaps:
            return []
        events = self._read_flight()
        self._capture_blocks(work)
        return events

    def _launch(self, work: list[Work], before: Flight | None) -> Flight:
        """Give the device a step; its tokens may be those that ``before`` is about to sample."""
        samplers = [given.sequence for given in work if given.samples]
        parts = [
            Part(given.sequence.id, given.tokens, NEXT_TOKEN if given.samples else NOTHING_WANTED) for given in work
        ]
        output = self._forward.run(StepInput(parts, inputs(work, before)))
        ids, positions = [s.id for s in samplers], [s.total for s in samplers]
        if isinstance(output, LateOutput):
            flight = Flight([*samplers], None, [], Late(output, positions))
        else:
            sampled = self._sampler.sample(ids, positions, output.logits) if samplers else None
            mx.async_eval(*(sampled.arrays if sampled else []), *output.state)
            # Arrays that are held are copied when the next step writes to them.
            flight = Flight([*samplers], sampled, [] if sampled else output.state)
        for given in work:
            given.sequence.known += given.tokens
        for sequence in samplers:
            sequence.in_flight += 1
        self._clear_now_and_then()
        return flight

    def _sampled(self, flight: Flight) -> Sampled | NativelySampled | None:
        """Wait for a step and return what it sampled for ``flight.sequences``; None if nothing."""
        if flight.late is None:
            if flight.sampled is None:
                mx.eval(*flight.state)
            return flight.sampled
        logits = flight.late.output.logits()
        # Rows that were closed meanwhile are unknown to the sampler.
        kept = [(row, sequence) for row, sequence in enumerate(flight.sequences) if sequence is not None]
        if len(kept) < len(flight.sequences):
            logits = logits[[row for row, _ in kept]]
            flight.sequences[:] = [sequence for _, sequence in kept]
        positions = [flight.late.positions[row] for row, _ in kept]
        return self._sampler.sample([s.id for _, s in kept], positions, logits) if kept else None

    def _read_flight(self) -> list[Event]:
        flight, self._flight = self._flight, None
        return self._read(flight)

    def _read(self, flight: Flight | None) -> list[Event]:
        """Wait for a step and return the events of the tokens that it sampled."""
        if flight is None:
            return []
        sampled = self._sampled(flight)
        if sampled is None:
            return []
        tokens = cast("list[int]", sampled.tokens.tolist())
        unsound = sampled.unsound()
        logprobs = sampled.read()
        return [
            self._event(sequence, token, logprobs.get(row)) if row not in unsound else self._failure(sequence)
            for row, (sequence, token) in enumerate(zip(flight.sequences, tokens, strict=True))
            if sequence is not None
        ]

    def _failure(self, sequence: Sequence) -> Event:
        """End ``sequence``, and no other, because no token can be sampled from its logits."""
        sequence.in_flight -= 1
        error = NonFiniteLogits(sequence.model, len(sequence.tokens) + len(sequence.generated))
        log.warning("sequence %d ends: %s", sequence.id, error)
        return Event(sequence, [], "error", fault_of(error))

    def _event(self, sequence: Sequence, token: int, logprob: TokenLogprob | None) -> Event:
        sequence.in_flight -= 1
        if token in sequence.stop_tokens:  # it ends the sequence and is not part of it
            sequence.stopped_by = token
            return Event(sequence, [], "stop")
        sequence.generated.append(token)
        reason: FinishReason | None = "length" if len(sequence.generated) >= sequence.limit else None
        return Event(sequence, [token], reason, logprobs=None if logprob is None else [logprob])

    def _failed(self, error: Exception, work: list[Work]) -> StepFailed:
        """Convert ``error``: a failed allocation tells the bytes it wanted, any other error is the engine's fault."""
        running = [given.sequence for given in work]
        running += [other for other in self._sequences.values() if other.in_flight and other not in running]
        if self._broken is not None:
            running = [sequence for sequence in self._broken.sequences if sequence.id in self._sequences]
        typed = out_of_memory(error, max(0, self._limit_bytes - mx.get_active_memory() - allocated_bytes()))
        if typed is None:
            log.error("a step failed, and %d sequences with it", len(self._sequences), exc_info=error)
        else:
            log.warning("a step failed for want of memory, and %d sequences wait: %s", len(self._sequences), error)
        return StepFailed(fault_of(typed or InternalError()), running, self._forward.reclaimable_bytes)

    def _reset(self) -> None:
        """Forget everything, because the contents of the caches are unknown."""
        for sequence in self._sequences.values():
            sequence.known = sequence.in_flight = 0
        self._sequences.clear()
        self._broken = self._flight = None
        self._forward.reset()
        self._sampler = Sampler(self._vocabulary, self._processors)
        mx.clear_cache()

    def _clear_now_and_then(self) -> None:
        self._steps += 1
        if self._steps % _STEPS_BETWEEN_CLEARINGS == 0:
            mx.clear_cache()


def _going_on(work: list[Work], told: list[Event]) -> list[Work]:
    """Return ``work`` without the sequences that ended since it was planned."""
    ended = {event.sequence.id for event in told if event.reason is not None}
    return [given for given in work if given.sequence.id not in ended]
