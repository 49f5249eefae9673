"""The model behind a batch: rows of cache, and one pass over whatever tokens a step brings."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import mlx.core as mx


class Part(NamedTuple):
    """``tokens`` consecutive tokens of one row. If ``samples``, the logits after the last of them are wanted."""

    row: int
    tokens: int
    samples: bool


class Forward(Protocol):
    """Rows of cache, numbered by the caller. Nothing is evaluated here but what is said to be."""

    def open(self, row: int, tokens: list[int]) -> int:
        """Make an empty row, or one that starts with what was kept of the same tokens; returns how many it holds.

        At least one of ``tokens`` is left to be taken in: a row must produce logits.
        """
        ...

    def close(self, row: int, keep: list[int] | None = None) -> None:
        """Forget a row. With ``keep``, exactly the tokens it holds, it stays for ``open`` to find, until there are too
        many of its kind or ``release`` is called."""

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
    def kept_bytes(self) -> int: ...

    def release(self) -> None:
        """Forget all that was kept."""

    def reset(self) -> None:
        """Forget everything: after a failure nobody knows what the arrays hold."""
