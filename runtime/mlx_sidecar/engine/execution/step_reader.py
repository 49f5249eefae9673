"""The step reader waits for a step in flight, and makes events of what it sampled."""

from __future__ import annotations

import logging
import time
from typing import NamedTuple, cast

import mlx.core as mx

from mlx_sidecar_protocol.errors import NonFiniteLogits

from ...link.faults import fault_of
from ...link.messages import FinishReason, TokenLogprob
from ..core.batch import Event
from ..core.sequence import Sequence
from ..speculation.speculator import Speculator
from .answer import Answer
from .flight import Broken, Flight, Late, let_go
from .forward import Forward
from .sampler import Sampler
from .verifier import Verifier

log = logging.getLogger(__name__)


class Told(NamedTuple):
    """The events of a step, and what broke its reading off behind them, if anything did."""

    events: list[Event]
    broken: Broken | None = None


class StepReader:
    """Reads the steps of one batch in their order, and tells the speculator what they took and how it fared."""

    def __init__(self, forward: Forward, sampler: Sampler, speculator: Speculator, vocabulary: int) -> None:
        self._forward = forward
        self._verifier = Verifier(sampler, vocabulary)
        self._speculator = speculator
        self._read_s = 0.0  # when a step was last read

    def read(self, flight: Flight) -> Told:
        """Wait for ``flight``. What it raises comes of a step without tokens, which the device was to compute."""
        told = self._read_late(flight, flight.late) if flight.late else Told(self._read_sampled(flight))
        now_s = time.perf_counter()
        if flight.tokens:
            self._speculator.prices.learn(flight.tokens, now_s - max(flight.started_s, self._read_s))
        self._read_s = now_s
        return told

    def _read_sampled(self, flight: Flight) -> list[Event]:
        if flight.sampled is None:
            mx.eval(*flight.state)
            return []
        tokens = cast("list[int]", flight.sampled.tokens.tolist())
        unsound = flight.sampled.unsound()
        logprobs = flight.sampled.read()
        return [
            _event(sequence, token, logprobs.get(row)) if row not in unsound else _failure(sequence)
            for row, (sequence, token) in enumerate(zip(flight.sequences, tokens, strict=True))
            if sequence is not None
        ]

    def _read_late(self, flight: Flight, late: Late) -> Told:
        answers = [
            Answer(sequence, draft)
            for sequence, draft in zip(flight.sequences, late.drafts, strict=True)
            if sequence is not None
        ]
        try:
            self._verifier.read(answers, late.output)
            for answer in answers:
                self._settle(answer)
        except Exception as error:
            let_go(flight)
            begun = [answer for answer in answers if answer.at or answer.reason is not None]
            if not begun:
                raise
            return Told([answer.event() for answer in begun], Broken(error, [answer.sequence for answer in answers]))
        return Told([answer.event() for answer in answers])

    def _settle(self, answer: Answer) -> None:
        """Take back the proposals that were wrong."""
        sequence, (proposed, forced, source) = answer.sequence, answer.draft.proposal
        wrong = len(proposed) - answer.matched
        sequence.in_flight -= 1 + len(proposed)
        self._speculator.verified(sequence, source, len(proposed) - forced, answer.matched - forced)
        if wrong and answer.fault is None:
            sequence.known -= wrong
            self._forward.truncate(sequence.id, sequence.known)


def _failure(sequence: Sequence) -> Event:
    """End ``sequence``, and no other, because no token can be sampled from its logits."""
    sequence.in_flight -= 1
    error = NonFiniteLogits(sequence.model, len(sequence.tokens) + len(sequence.generated))
    log.warning("sequence %d ends: %s", sequence.id, error)
    return Event(sequence, [], "error", fault_of(error))


def _event(sequence: Sequence, token: int, logprob: TokenLogprob | None) -> Event:
    sequence.in_flight -= 1
    if token in sequence.stop_tokens:  # it ends the sequence and is not part of it
        sequence.stopped_by = token
        return Event(sequence, [], "stop")
    sequence.generated.append(token)
    reason: FinishReason | None = "length" if len(sequence.generated) >= sequence.limit else None
    return Event(sequence, [token], reason, logprobs=None if logprob is None else [logprob])
