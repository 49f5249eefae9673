"""The model behind a batch: rows of cache, and one pass over whatever tokens a step brings."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import mlx.core as mx

from ...link.control_messages import ForwardName
from ..cache.prefix_match import CacheSpec
from ..cache.prefixes import NOTHING, PrefixMatch
from ..cache.segment import Segment


class Part(NamedTuple):
    """``tokens`` consecutive tokens of one row. If ``samples``, the logits after the last of them are wanted."""

    row: int
    tokens: int
    samples: bool


class Forward(Protocol):
    """Rows of cache, numbered by the caller. Nothing is evaluated here but what is said to be."""

    name: ForwardName
    """What hosts are told it is."""
    spec: CacheSpec
    """What of a segment a row must be given to go on with it."""
    uncacheable: str
    """Why nothing of a row can be captured; "" where it can."""
    cached_upto: bool
    """Whether anybody will: set by whoever does."""

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

    def run(self, parts: list[Part], tokens: mx.array) -> mx.array:
        """One pass. ``tokens`` [all parts' tokens], int32, part by part, may be unevaluated.

        Returns logits [parts that sample, vocabulary], unevaluated, in the order of the parts; rows that are not named
        stay as they are. A part that samples nothing still has to be evaluated: see ``state``.
        """
        ...

    @property
    def state(self) -> list[mx.array]:
        """The arrays to evaluate with the logits, so that no step leaves work to a later one."""
        ...

    @property
    def reclaimable_bytes(self) -> int:
        """Memory of rows that were closed, which the next ones may have."""
        ...

    def release(self) -> None:
        """Give it back."""

    def reset(self) -> None:
        """Forget everything: after a failure nobody knows what the arrays hold."""
