"""A flight is a step that the device has been given and that has not been read."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future, wait
from typing import NamedTuple

import mlx.core as mx

from ..core.batch import Event, Work
from ..core.sequence import Sequence
from .forward import LateOutput, StepOutput
from .proposals import NO_PROPOSAL, Proposal
from .sampler import Mask, Sampled
from .vector_rows import Vector


class Draft(NamedTuple):
    """The part of a sequence in a step that is sampled late: ``position`` is that of its first token to be sampled.

    Its logits are those from ``first`` on, one more than it has proposed tokens. ``mask`` is that of the first token,
    for a sequence that must not be sampled without.
    """

    position: int
    first: int
    proposal: Proposal
    mask: Future[Mask] | None


class Late(NamedTuple):
    """A step that is sampled when it is read, and the part of each sequence that samples in it."""

    output: StepOutput | LateOutput
    drafts: list[Draft]


class Flight(NamedTuple):
    """A step in flight: the ``sequences`` that sample in it, in order, with None for each that was closed since.

    If none samples, the step is over once ``state`` is evaluated. It is sampled ``late`` where its logits are computed
    apart, or where the tokens must be checked before the next step. It decodes so many ``tokens``, 0 if it prefills
    too. ``started_s`` is in seconds of ``time.perf_counter``. ``vectors`` are those that it completes.
    """

    sequences: list[Sequence | None]
    sampled: Sampled | None
    state: list[mx.array]
    late: Late | None
    tokens: int
    started_s: float
    vectors: tuple[Vector, ...] = ()


def let_go(flight: Flight, sequence: Sequence | None = None) -> None:
    """Take ``sequence``, or all, out of ``flight``, once nothing computes with their constraints any more."""
    for at, other in enumerate(flight.sequences):
        if sequence is not None and other is not sequence:
            continue
        flight.sequences[at] = None
        if flight.late is not None and (mask := flight.late.drafts[at].mask) is not None and not mask.cancel():
            wait([mask])


class Broken(NamedTuple):
    """An ``error`` that fails the next step: from opening, closing or a step of ``sequences``, or a release."""

    error: Exception
    sequences: list[Sequence]


def leave_out_ended(work: list[Work], told: list[Event]) -> None:
    """Leave the sequences that ended since ``work`` was planned out of it."""
    ended = {event.sequence.id for event in told if event.reason is not None}
    work[:] = [given for given in work if given.sequence.id not in ended]


def inputs(work: list[Work], before: Flight | None, proposed: Mapping[int, Proposal]) -> mx.array:
    """Return the tokens of a step, [tokens]; those that ``before`` samples are taken from there, unread.

    Those ``proposed`` for a sequence stand behind its newest one.
    """
    if before is None or before.sampled is None:
        known: list[int] = []
        for given in work:
            tokens = proposed.get(given.sequence.id, NO_PROPOSAL).tokens
            known += given.sequence.upcoming(given.tokens - len(tokens)) + tokens
        return mx.array(known)
    sampled = before.sampled.tokens
    flying = {sequence.id: row for row, sequence in enumerate(before.sequences) if sequence is not None}
    rows = [flying.get(given.sequence.id) if given.sequence.in_flight else None for given in work]
    if rows == list(range(len(before.sequences))):
        return sampled
    known = []
    into: list[int] = []
    for given, row in zip(work, rows, strict=True):
        known += given.sequence.upcoming(given.tokens)
        if row is not None:
            into.append(len(known))
            known.append(0)
    inputs = mx.array(known)
    if into:
        inputs[mx.array(into)] = sampled[mx.array([row for row in rows if row is not None])].astype(inputs.dtype)
    return inputs
