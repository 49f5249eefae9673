"""The batch of a real model makes one pass over a step's tokens, and samples once for all rows that are due one."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from types import MappingProxyType

import mlx.core as mx

from mlx_sidecar_protocol.errors import InternalError

from ...link.faults import fault_of
from ..cache.prefixes import Prefixes
from ..core.batch import Event, Role, StepFailed, Work
from ..core.oom_backoff import out_of_memory
from ..core.sequence import Sequence
from .dense import Dense
from .drafter import DraftModel
from .flight import Broken, Draft, Flight, Late, inputs, leave_out_ended, let_go
from .forward import Forward, LateOutput, Logits, Part, StepInput, StepOutput
from .native.forward import allocated_bytes
from .proposals import NO_PROPOSAL, Proposal, Proposer
from .row_prefixes import RowPrefixes
from .sampler import FACTORIES, ProcessorFactory, Sampler
from .step_reader import StepReader
from .vector_rows import Vector, VectorRows

log = logging.getLogger(__name__)

# Freed buffers that mlx keeps for reuse are of the sizes of caches that grow: now and then the old ones have to go.
_STEPS_BETWEEN_CLEARINGS = 512


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
        drafts: Mapping[str, DraftModel] = MappingProxyType({}),
        adapted: Mapping[str, Prefixes] = MappingProxyType({}),
        dense: Dense | None = None,
    ) -> None:
        """Errors tell how much of the device's ``limit_bytes`` was left. ``processors`` change logits before sampling.

        Rows begin with their cached blocks in ``prefixes``, or those of their adapter in ``adapted``, and computed
        blocks go there. ``drafts`` are the resident models that may make proposals. Embeddings pass ``dense``.
        """
        self.forward = forward
        self._prefixes = RowPrefixes(forward, prefixes, adapted)
        self._vocabulary = vocabulary
        self._processors = processors
        self._limit_bytes = limit_bytes
        self.proposer = Proposer(vocabulary, forward.untruncatable, drafts)
        self._begin_sampling()
        self.epoch = 0
        self._dense = dense or Dense()
        self._vectors = VectorRows(self._dense)
        self._masking = ThreadPoolExecutor(1, "masks")  # its thread is there once a row needs it
        self._sequences: dict[int, Sequence] = {}
        self._flight: Flight | None = None
        self.clock: Callable[[], float] = time.monotonic  # the engine's
        self.read_s = 0.0
        self._broken: Broken | None = None
        self._steps = 0

    def _begin_sampling(self) -> None:
        self._sampler = Sampler(self._vocabulary, self._processors)
        self._reader = StepReader(self.forward, self._sampler, self.proposer.speculator, self._vocabulary)

    @property
    def _is_broken(self) -> bool:
        return self._broken is not None

    @property
    def in_flight(self) -> bool:
        return self._flight is not None

    @property
    def reclaimable_bytes(self) -> int:
        return self.forward.reclaimable_bytes

    def release(self) -> None:
        try:
            self.forward.release()
        except Exception as error:  # noqa: BLE001 - the next step fails with it
            self.break_with(error)

    def open(self, sequence: Sequence) -> None:
        self._sequences[sequence.id] = sequence
        try:
            self._open(sequence)
        except Exception as error:  # noqa: BLE001 - the next step fails with it
            self._broken = self._broken or Broken(error, [sequence])

    def _open(self, sequence: Sequence) -> None:
        self._prefixes.open(sequence)
        if sequence.asked.adapter is not None:
            assert self.forward.adapted_rows is not None
            self.forward.adapted_rows.use(sequence.id, sequence.asked.adapter)
        prompt = len(sequence.tokens) - sequence.emitted
        answer = sequence.tokens[prompt:] + sequence.generated
        self._sampler.open(sequence.id, sequence.sampling, sequence.tokens[:prompt], answer)
        sequence.reads_last_token = self._sampler.reads_last_token(sequence.id)

    def close(self, sequence: Sequence, *, keep: bool) -> None:
        if self._sequences.pop(sequence.id, None) is None:
            return  # a step that failed took it
        if self._flight is not None:
            let_go(self._flight, sequence)
        try:
            if self._broken is None:
                self._close(sequence, keep=keep)
        except Exception as error:  # noqa: BLE001 - the next step fails with it
            self._broken = Broken(error, [sequence])
        sequence.known = sequence.in_flight = 0
        if not self._sequences:
            self._flight = None
            self._reset_broken()

    def break_with(self, error: Exception) -> None:
        """Let the next step fail with ``error``, because the contents of the caches are unknown."""
        self._broken = self._broken or Broken(error, [])
        if not self._sequences:
            self._reset_broken()

    def _reset_broken(self) -> None:
        """Start anew if anything is broken, because no sequence is left whose step would fail with it."""
        if self._broken is not None:
            log.error("the batch is broken", exc_info=self._broken.error)
            self._reset()

    def _close(self, sequence: Sequence, *, keep: bool) -> None:
        if keep:
            # What is computed apart is not there yet.
            flying = sequence.in_flight if self.forward.computes_apart else 0
            self._prefixes.capture(sequence, min(sequence.known - flying, len(sequence.history())))
        self.forward.close(sequence.id)
        self._vectors.close(sequence.id)
        self._sampler.close(sequence.id)
        self.proposer.close(sequence.id)

    def share(self, sequence: Sequence, tokens: int) -> None:
        if sequence.id in self._sequences and self._broken is None:
            self.forward.checkpoint_at(sequence.id, tokens)

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
        if before is None or not (before.late or any(self.proposer.reads_first(given.sequence) for given in work)):
            return self._go_on(work, before)
        told = self._read_before(before)
        if self._is_broken:
            work.clear()
            return told
        try:
            leave_out_ended(work, told)
            return told + self._go_on(work, None)
        except Exception as error:  # noqa: BLE001 - the next step fails with it, because these tokens must be told
            self._broken = Broken(error, [given.sequence for given in work])
            work.clear()
            return told

    def _go_on(self, work: list[Work], before: Flight | None) -> list[Event]:
        """Start ``work`` and return the events of ``before``, or those of ``work`` where steps do not overlap."""
        if not work:
            return self._read_before(before)
        # A step that prefills takes long: a request that arrives now waits for that one only, not for one more.
        decodes = all(given.role is not Role.PREFILL for given in work)
        assert decodes or before is None
        assert not any(given.sequence.awaits_token for given in work)
        # Where all rows wait for their tokens, no step can be started before this one is read.
        overlaps = decodes and not all(given.sequence.reads_last_token for given in work)
        proposed = {} if before else self.proposer.propose(work)
        if self.forward.computes_apart:
            return self._step_apart(work, proposed, overlaps=overlaps)
        self._flight = self._launch(work, before, proposed)
        self._prefixes.capture_blocks(work)
        return self._read_before(before) + ([] if overlaps else self._read_flight())

    def _step_apart(self, work: list[Work], proposed: dict[int, Proposal], *, overlaps: bool) -> list[Event]:
        """Start ``work``, and read it unless steps overlap. Only what is computed for certain is captured."""
        self._prefixes.capture_blocks(work)
        self._flight = self._launch(work, None, proposed)
        if overlaps:
            return []
        events = self._read_flight()
        self._prefixes.capture_blocks(work)
        return events

    def _launch(self, work: list[Work], before: Flight | None, proposed: dict[int, Proposal]) -> Flight:
        """Give the device a step; its tokens may be those that ``before`` is about to sample."""
        started_s = time.perf_counter()
        work.sort(key=_gives_vector)  # behind the rows that are sampled
        samplers = [given.sequence for given in work if given.samples and not _gives_vector(given)]
        wanted = {sequence.id: 1 + len(proposed.get(sequence.id, NO_PROPOSAL).tokens) for sequence in samplers}
        parts = [
            Part(
                given.sequence.id,
                given.tokens,
                VectorRows.wish(given) if _gives_vector(given) else Logits(wanted.get(given.sequence.id, 0)),
            )
            for given in work
        ]
        output = self.forward.run(StepInput(parts, inputs(work, before, proposed)))
        embedding = [given for given in work if _gives_vector(given)]
        vectors: tuple[Vector, ...] = ()
        if embedding:
            vectors = tuple(self._vectors.take(embedding, output))
        pooled = [*(vector.numbers for vector in vectors), *self._vectors.state]
        tokens = 0 if any(given.role is Role.PREFILL for given in work) else sum(given.tokens for given in work)
        if isinstance(output, LateOutput) or proposed or any(sequence.constraint for sequence in samplers):
            mx.async_eval(*([output.logits, *output.state] if isinstance(output, StepOutput) else []), *pooled)
            late = Late(output, self._drafts(samplers, proposed))
            flight = Flight([*samplers], None, [], late, tokens, started_s, vectors)
        else:
            ids, positions = [s.id for s in samplers], [s.total for s in samplers]
            logits = output.logits[: len(ids)] if vectors else output.logits
            sampled = self._sampler.sample(ids, positions, logits) if samplers else None
            mx.async_eval(*(sampled.arrays if sampled else []), *output.state, *pooled)
            # Arrays that are held are copied when the next step writes to them.
            flight = Flight([*samplers], sampled, [] if sampled else output.state, None, tokens, started_s, vectors)
        for given in work:
            given.sequence.known += given.tokens
        for sequence in samplers:
            sequence.in_flight += wanted[sequence.id]
        self._clear_now_and_then()
        return flight

    def _drafts(self, sequences: list[Sequence], proposed: dict[int, Proposal]) -> list[Draft]:
        drafts: list[Draft] = []
        first = 0
        for sequence in sequences:
            constraint = sequence.constraint
            binds = constraint is not None and not (constraint.free or constraint.forced)
            masks = binds and self._sampler.is_filtered(sequence.id)
            mask = self._masking.submit(constraint.mask) if constraint is not None and masks else None
            proposal = proposed.get(sequence.id, NO_PROPOSAL)
            drafts.append(Draft(sequence.total, first, proposal, mask))
            first += 1 + len(proposal.tokens)
        return drafts

    def _read_before(self, before: Flight | None) -> list[Event]:
        told = self._read(before)
        self.read_s = self.clock()
        return told

    def _read_flight(self) -> list[Event]:
        flight, self._flight = self._flight, None
        return self._read(flight)

    def _read(self, flight: Flight | None) -> list[Event]:
        """Wait for a step and return the events of the tokens that it sampled."""
        if flight is None:
            return []
        vectors = [vector.event() for vector in flight.vectors]  # before any token is read, because this may raise
        told, broken = self._reader.read(flight)
        self._broken = self._broken or broken  # the next step fails with it, because tokens must be told before
        return told + vectors

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
        return StepFailed(fault_of(typed or InternalError()), running, self.forward.reclaimable_bytes)

    def _reset(self) -> None:
        """Forget everything, because the contents of the caches are unknown."""
        for sequence in self._sequences.values():
            sequence.known = sequence.in_flight = 0
        self._sequences.clear()
        if self._flight is not None:
            let_go(self._flight)
        self._broken = self._flight = None
        self.epoch += 1
        self.forward.reset()
        self._vectors = VectorRows(self._dense)
        self._begin_sampling()
        mx.clear_cache()

    def _clear_now_and_then(self) -> None:
        self._steps += 1
        if self._steps % _STEPS_BETWEEN_CLEARINGS == 0:
            mx.clear_cache()


def _gives_vector(given: Work) -> bool:
    return given.sequence.asked.vector is not None
