"""Logits processors: changes to logits before they are filtered, the list of them, and how a step applies them.

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
from .rows import Row, Rows


class Bound(Protocol):
    """A processor over some of its rows, for as many steps as the batch keeps the same rows.

    It holds nothing that must outlive it: the state of a row belongs to the processor, under the row's number.
    """

    def apply(self, logits: mx.array) -> mx.array:
        """Return the changed ``logits``: [rows, vocabulary], float32, in the order of ``bind``; called once a step."""
        ...

    def accept(self, tokens: mx.array) -> None:
        """Take in the tokens that were sampled after ``apply``: [rows], int32, on the device and not evaluated yet."""


class LogitsProcessor(Protocol):
    """A change to the logits of those rows whose parameters ask for it. Nothing is evaluated in these methods.

    Processors are applied by ascending ``order``. One that ``reads_last_token`` may list in ``Bound.apply`` the array
    that ``Bound.accept`` was given before (``tolist``; to index it would be an operation of its own), without waiting
    for the device, because no step of its rows is planned while their last token is in flight. Beside other rows, such
    a row decodes in every other step only, so a processor that can compute with unevaluated tokens should.
    """

    order: int
    reads_last_token: bool

    def open(self, row: int, params: Sampling, prompt: list[int], answer: list[int], /) -> bool:
        """Begin ``row`` and answer whether it is changed; no other method is called for a row that is not.

        ``answer`` has the tokens generated so far, before a restart or a preemption; ``prompt`` has those before.
        """
        ...

    def bind(self, rows: list[int]) -> Bound:
        """Prepare steps of ``rows``, all of which are changed; the result is used until any row is opened or closed."""
        ...

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


def changed_rows(rows: list[int], members: Sequence[Row]) -> list[ChangedRow]:
    """Return which of ``rows``, the ``members`` of a step, are changed, in the order of their changed logits.

    Those of each of the first two processors are neighbours, because every run costs a call.
    """
    changed = [
        ChangedRow(row, place, member.changed_by)
        for place, (row, member) in enumerate(zip(rows, members, strict=True))
        if any(member.changed_by)
    ]
    return sorted(changed, key=lambda row: _gray_rank(row.changed_by), reverse=True)


def _gray_rank(changed_by: tuple[bool, ...]) -> int:
    """The place of ``changed_by`` in the reflected Gray code, in which neighbours differ in one bit."""
    rank = 0
    for changed in changed_by:
        rank = 2 * rank + (changed ^ (rank & 1))
    return rank


class BoundProcessors:
    """The processors of one step, in order, each bound to those of the changed rows that are its own."""

    def __init__(self, processors: Sequence[LogitsProcessor], rows: Sequence[ChangedRow], of: int) -> None:
        """``rows`` are those of ``changed_rows``; ``of`` is how many rows the step has."""
        self._changed = Rows([row.place for row in rows], of)
        stages = (_runs(processor, rows, number) for number, processor in enumerate(processors))
        self._stages = [stage for stage in stages if any(run.bound for run in stage)]

    def apply(self, logits: mx.array) -> mx.array:
        """Return the changed rows of ``logits`` [rows of the step, vocabulary]: [changed, vocabulary], float32.

        Where none is changed, there is nothing to take from the result.
        """
        return self.apply_to_changed(self._changed.of(logits).astype(mx.float32)) if self._stages else logits

    def apply_to_changed(self, logits: mx.array) -> mx.array:
        """Do as ``apply``, given the logits of the changed rows alone, in their order."""
        for stage in self._stages:
            parts = [run.apply(logits if len(stage) == 1 else logits[run.rows]) for run in stage]
            logits = parts[0] if len(parts) == 1 else mx.concatenate(parts)
        return logits

    def accept(self, tokens: mx.array) -> list[mx.array]:
        """Tell each processor the tokens of its rows; return those that will be read, to be evaluated with the step.

        ``tokens`` are those of the whole step: [rows], int32.
        """
        read: list[mx.array] = []
        for run in (run for stage in self._stages for run in stage):
            if run.bound is not None:
                own = tokens[run.places]
                run.bound.accept(own)
                if run.reads_last_token:
                    read.append(own)
        return read


class _Run(NamedTuple):
    """Neighbours among the changed rows that a processor changes, or that it does not: then without ``bound``."""

    rows: slice  # of the changed rows
    places: mx.array  # in the step
    bound: Bound | None
    reads_last_token: bool

    def apply(self, logits: mx.array) -> mx.array:
        return logits if self.bound is None else self.bound.apply(logits)


def _runs(processor: LogitsProcessor, rows: Sequence[ChangedRow], number: int) -> list[_Run]:
    """Split ``rows`` by whether ``processor``, which is the one of that ``number``, changes them."""
    runs: list[_Run] = []
    start = 0
    for changed, members in groupby(rows, key=lambda row: row.changed_by[number]):
        run = list(members)
        bound = processor.bind([member.row for member in run]) if changed else None
        rows_of_it, places = slice(start, start + len(run)), mx.array([member.place for member in run])
        runs.append(_Run(rows_of_it, places, bound, processor.reads_last_token))
        start += len(run)
    return runs
