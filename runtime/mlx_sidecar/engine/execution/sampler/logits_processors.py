"""Logits processors: what may change logits before they are filtered, the list of them, and how a step applies them.

A new one is a class with the methods of ``LogitsProcessor`` in a file of its own, and an entry in ``FACTORIES``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby
from typing import NamedTuple, Protocol

import mlx.core as mx

from ....link.messages import Sampling
from .logit_bias import LogitBias
from .penalties import Penalties


class Bound(Protocol):
    """A processor over some of its rows, for as many steps as the batch keeps the same rows.

    It holds nothing that must outlive it: what a processor knows of a row, it keeps under the row's number.
    """

    def apply(self, logits: mx.array) -> mx.array:
        """Return the changed ``logits``: [rows, vocabulary], float32, in the order of ``bind``; called once a step."""

    def accept(self, tokens: mx.array) -> None:
        """Take in the tokens that were sampled after ``apply``: [rows], int32, on the device and not evaluated yet."""


class LogitsProcessor(Protocol):
    """A change to the logits of those rows whose parameters ask for it. Nothing is evaluated in these methods.

    Processors are applied by ascending ``order``. One that ``reads_last_token`` may evaluate in ``Bound.apply`` what
    ``Bound.accept`` was given before, without waiting for the device: no step of its rows is planned while their last
    token is in flight. Such a row decodes in every other step of a batch, so a processor that can compute with
    unevaluated tokens should.
    """

    order: int
    reads_last_token: bool

    def open(self, row: int, params: Sampling, prompt: list[int], answer: list[int]) -> bool:
        """Begin ``row`` and answer whether it is changed; no other method is called for a row that is not.

        ``answer`` has the tokens generated so far, before a restart or a preemption; ``prompt`` has those before.
        """

    def bind(self, rows: list[int]) -> Bound:
        """Prepare steps of ``rows``, all of which are changed. Opening or closing any row ends what was bound."""

    def close(self, row: int) -> None:
        """Forget ``row``, which is changed."""


# Makes the processor of one batch, given the size of the vocabulary.
ProcessorFactory = Callable[[int], LogitsProcessor]

# All that there are; a new one is added here.
FACTORIES: tuple[ProcessorFactory, ...] = (Penalties, LogitBias)


def make_processors(factories: Sequence[ProcessorFactory], vocabulary: int) -> list[LogitsProcessor]:
    """Make one processor of each factory, in the order in which they are applied."""
    return sorted((make(vocabulary) for make in factories), key=lambda processor: processor.order)


class ChangedRow(NamedTuple):
    """A row of a step that at least one processor changes."""

    row: int
    place: int  # in the step
    changed_by: tuple[bool, ...]  # for each processor


class BoundProcessors:
    """The processors of one group of rows, in order, each bound to those that it changes.

    Rows that one processor changes should be neighbours: each run of them costs a call. Sorted by descending
    ``changed_by`` they are, for the first processor.
    """

    def __init__(self, processors: Sequence[LogitsProcessor], rows: Sequence[ChangedRow]) -> None:
        stages = (_runs(processor, rows, number) for number, processor in enumerate(processors))
        self._stages = [stage for stage in stages if any(run.bound for run in stage)]

    def apply(self, logits: mx.array) -> mx.array:
        """Change ``logits``: [rows, vocabulary], float32, to the same shape."""
        for stage in self._stages:
            parts = [run.apply(logits if len(stage) == 1 else logits[run.rows]) for run in stage]
            logits = parts[0] if len(parts) == 1 else mx.concatenate(parts)
        return logits

    def accept(self, tokens: mx.array) -> None:
        """Tell each processor the tokens of its rows. ``tokens`` are those of the whole step: [rows], int32."""
        for stage in self._stages:
            for run in stage:
                if run.bound is not None:
                    run.bound.accept(tokens[run.places])


class _Run(NamedTuple):
    """Neighbouring rows of a group that a processor changes, or that it does not: then without ``bound``."""

    rows: slice  # of the group's logits
    places: mx.array  # in the step
    bound: Bound | None

    def apply(self, logits: mx.array) -> mx.array:
        return logits if self.bound is None else self.bound.apply(logits)


def _runs(processor: LogitsProcessor, rows: Sequence[ChangedRow], number: int) -> list[_Run]:
    """Split ``rows`` by whether ``processor``, which is the one of that ``number``, changes them."""
    runs: list[_Run] = []
    start = 0
    for changed, members in groupby(rows, key=lambda row: row.changed_by[number]):
        run = list(members)
        bound = processor.bind([member.row for member in run]) if changed else None
        runs.append(_Run(slice(start, start + len(run)), mx.array([member.place for member in run]), bound))
        start += len(run)
    return runs
