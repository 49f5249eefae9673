"""The model behind a batch: rows of cache, and one pass over whatever tokens a step brings."""

from __future__ import annotations

from typing import Final, NamedTuple, Protocol

import mlx.core as mx

from ...link.control_messages import ForwardName
from ..cache.prefix_match import CacheSpec
from ..cache.prefixes import NOTHING, PrefixMatch
from ..cache.segment import Segment


class Logits(NamedTuple):
    """A part wants the logits after each of its ``last`` tokens."""

    last: int


NOTHING_WANTED: Final = Logits(0)
NEXT_TOKEN: Final = Logits(1)


class Part(NamedTuple):
    """``tokens`` consecutive tokens of one row, of which ``want`` is wanted."""

    row: int
    tokens: int
    want: Logits


class StepInput(NamedTuple):
    """One pass: ``tokens`` [all parts' tokens], int32, part by part; they may be unevaluated."""

    parts: list[Part]
    tokens: mx.array


class StepOutput(NamedTuple):
    """``logits`` [wanted, vocabulary], in the order of the parts and of the tokens in them, unevaluated.

    ``state`` are the arrays to evaluate with them, so that no step leaves work to a later one. Arrays that are held are
    copied when the next step writes to them.
    """

    logits: mx.array
    state: list[mx.array]


class NotTruncatable(Exception):
    """A row cannot be taken back to where it was to be: what it would need there has gone."""


class Forward(Protocol):
    """Rows of cache, numbered by the caller. Nothing is evaluated here but what is said to be."""

    name: ForwardName
    """What hosts are told it is."""
    spec: CacheSpec
    """What of a segment a row must be given to go on with it."""
    uncacheable: str
    """Why nothing of a row can be captured; "" where it can."""
    untruncatable: str
    """Why no row can be truncated; "" where the tokens of a short part (``SHORT_TOKENS``) always can be taken back."""
    captured: bool
    """Whether rows will be captured: set by the batch that does."""

    def open(self, row: int, expected: int, match: PrefixMatch = NOTHING) -> None:
        """Make a row for ``expected`` tokens that begins with what ``match`` holds."""

    def checkpoint_at(self, row: int, position: int) -> None:
        """Others will want to go on at ``position``, which the row has yet to come to: a forward that cannot go on
        everywhere sees to it that it can be gone on from there."""

    def close(self, row: int) -> None:
        """Forget a row."""

    def capture(self, row: int, start: int, stop: int) -> list[Segment]:
        """Copies of what there is of tokens ``start`` to ``stop`` of a row, which holds them, for others to begin with.

        ``start`` is where a block begins. Called after each step that goes beyond the end of a block, or nothing is
        promised but what is left of it.
        """
        ...

    def run(self, step: StepInput) -> StepOutput:
        """One pass, lazily. Rows that are not named stay as they are."""
        ...

    def truncate(self, row: int, length: int) -> None:
        """Let a row hold its first ``length`` tokens only; the rest must have come with its last part.

        Keys and values that are taken back stay in memory until others take their place, so they must be numbers.
        Raises ``NotTruncatable`` and leaves the row as it is where ``untruncatable`` says why, for tokens of an earlier
        part, and where a window has spilled.
        """

    @property
    def reclaimable_bytes(self) -> int:
        """Memory of rows that were closed, which the next ones may have."""
        ...

    def release(self) -> None:
        """Give it back."""

    def reset(self) -> None:
        """Forget everything: after a failure it is unknown what the arrays hold."""
