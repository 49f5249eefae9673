"""Rows of a batch whose result is a vector: an embedding of their hidden states, or the logits of some labels."""

from __future__ import annotations

import logging
from itertools import accumulate
from typing import NamedTuple

import mlx.core as mx

from mlx_sidecar_protocol.errors import NonFiniteEmbedding

from ...link.control_messages import Pooling
from ...link.faults import fault_of
from ...link.messages import Embed, Score
from ..core.batch import Event, Work
from ..core.sequence import Sequence
from .dense import Dense
from .forward import NEXT_TOKEN, NOTHING_WANTED, Hidden, LateOutput, Logits, StepOutput
from .pooling import finished, pooled

log = logging.getLogger(__name__)


class Vector(NamedTuple):
    """The result of a row: an embedding, or all logits behind its last token; evaluated when it is read."""

    sequence: Sequence
    numbers: mx.array

    def event(self) -> Event:
        sequence, goal = self.sequence, self.sequence.asked.vector
        assert goal is not None
        chosen = self.numbers[mx.array(goal.labels)] if isinstance(goal, Score) else self.numbers
        data = finished(chosen.astype(mx.float32), goal)
        if data is None:
            log.warning("the vector of sequence %d is not finite", sequence.id)
            return Event(sequence, [], "error", fault_of(NonFiniteEmbedding(sequence.model)))
        return Event(sequence, [], "length", vector=data)


class VectorRows:
    """The rows of one batch. What is pooled so far is kept for each, until its last tokens are taken in."""

    def __init__(self, dense: Dense) -> None:
        """Embeddings pass ``dense``."""
        self._dense = dense
        self._so_far: dict[int, mx.array] = {}

    def close(self, row: int) -> None:
        self._so_far.pop(row, None)

    @staticmethod
    def wish(given: Work) -> Logits | Hidden:
        """The output that a step has to give of a row whose result is a vector."""
        goal = given.sequence.asked.vector
        if isinstance(goal, Embed) and goal.pooling != "last":
            return Hidden(given.tokens)
        if not given.samples:
            return NOTHING_WANTED
        return Hidden(1) if isinstance(goal, Embed) else NEXT_TOKEN

    def take(self, work: list[Work], output: StepOutput | LateOutput) -> list[Vector]:
        """Return the vectors that a step has completed. A late output that something is wanted of is waited for."""
        wishes = [self.wish(given) for given in work]
        hidden = iter(_split(output, wishes))
        vectors = _logits([given.sequence for given in work if given.samples and _scores(given)], output)
        for given, wish in zip(work, wishes, strict=True):
            if isinstance(wish, Hidden) and (made := self._pooled(given, next(hidden))) is not None:
                vectors.append(Vector(given.sequence, self._dense(made)))
        return vectors

    @property
    def state(self) -> list[mx.array]:
        """The arrays to evaluate with a step, so that it leaves no work to a later one."""
        return list(self._so_far.values())

    def _pooled(self, given: Work, hidden: mx.array) -> mx.array | None:
        """Take in hidden states [tokens, width]; return the vector if they are the last ones."""
        goal, row = given.sequence.asked.vector, given.sequence.id
        assert isinstance(goal, Embed)
        if goal.pooling == "last":
            return pooled(hidden, "last")
        before = self._so_far.pop(row, None)
        whole = _joined(before, hidden.astype(mx.float32), goal.pooling)
        if not given.samples:
            self._so_far[row] = whole
            return None
        return whole / len(given.sequence.tokens) if goal.pooling == "mean" else whole


def _joined(before: mx.array | None, hidden: mx.array, pooling: Pooling) -> mx.array:
    """Return the sum or the largest numbers [width] of the states ``before`` and of ``hidden`` [tokens, width].

    A running sum adds them up in their order, wherever a text is cut into pieces.
    """
    states = hidden if before is None else mx.concatenate([before[None], hidden])
    return mx.max(states, axis=0) if pooling == "max" else mx.cumsum(states, axis=0)[-1]


def _scores(given: Work) -> bool:
    return isinstance(given.sequence.asked.vector, Score)


def _split(output: StepOutput | LateOutput, wishes: list[Logits | Hidden]) -> list[mx.array]:
    """The hidden states of each row that wants any."""
    ends = list(accumulate(wish.last for wish in wishes if isinstance(wish, Hidden)))
    hidden = output.states() if ends else None
    return [] if hidden is None else [hidden[begin:end] for begin, end in zip([0, *ends], ends, strict=False)]


def _logits(sequences: list[Sequence], output: StepOutput | LateOutput) -> list[Vector]:
    """The logits of ``sequences``, which are the last ones of a step."""
    if not sequences:
        return []
    logits = output.wait() if isinstance(output, LateOutput) else output.logits
    return [Vector(sequence, row) for sequence, row in zip(sequences, logits[-len(sequences) :], strict=True)]
