"""A flight is a step that the device has been given and that has not been read."""

from __future__ import annotations

from typing import NamedTuple

import mlx.core as mx

from ..core.batch import Work
from ..core.sequence import Sequence
from .forward import LateOutput
from .sampler import Sampled


class Late(NamedTuple):
    """The ``output`` of a step, a row for each sequence that samples, and the ``positions`` of the tokens to sample."""

    output: LateOutput
    positions: list[int]


class Flight(NamedTuple):
    """A step in flight: the ``sequences`` that sample in it, in order, with None for each that was closed since.

    If none samples, the step is over once ``state`` is evaluated. Where logits are computed apart they come ``late``,
    and tokens are sampled when the step is read.
    """

    sequences: list[Sequence | None]
    sampled: Sampled | None
    state: list[mx.array]
    late: Late | None = None


def inputs(work: list[Work], before: Flight | None) -> mx.array:
    """Return the tokens of a step, [tokens]; those that ``before`` samples are taken from there, unread."""
    if before is None or before.sampled is None:
        return mx.array([token for given in work for token in given.sequence.upcoming(given.tokens)])
    sampled = before.sampled.tokens
    flying = {sequence.id: row for row, sequence in enumerate(before.sequences) if sequence is not None}
    rows = [flying.get(given.sequence.id) if given.sequence.in_flight else None for given in work]
    if rows == list(range(len(before.sequences))):
        return sampled
    known: list[int] = []
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
