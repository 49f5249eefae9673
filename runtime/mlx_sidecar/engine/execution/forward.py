"""A forward is the model behind a batch: it has rows of cache, and makes one pass over the tokens of a step."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

import mlx.core as mx

from ...link.control_messages import ForwardName
from ..cache.prefix_match import CacheSpec
from ..cache.prefixes import NOTHING, PrefixMatch
from ..cache.segment import Segment
from ..core.adapter import AdaptedRows

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Logits(NamedTuple):
    """The wish of a part for the logits after each of its ``last`` tokens."""

    last: int


class Hidden(NamedTuple):
    """The wish of a part for the hidden states behind the last layer and its norm, of each of its ``last`` tokens.

    Forwards that keep rows in mlx-lm's own caches have none.
    """

    last: int


NOTHING_WANTED: Final = Logits(0)
NEXT_TOKEN: Final = Logits(1)


class Part(NamedTuple):
    """``tokens`` consecutive tokens of one row, of which ``want`` is wanted."""

    row: int
    tokens: int
    want: Logits | Hidden


class StepInput(NamedTuple):
    """The input of one pass: ``tokens`` [all parts' tokens], int32, part by part.

    They may be unevaluated, unless the forward ``computes_apart``.
    """

    parts: list[Part]
    tokens: mx.array


class StepOutput(NamedTuple):
    """The result of one pass: ``logits`` [wanted, vocabulary], unevaluated, in the order of parts and their tokens.

    ``state`` are the arrays to evaluate with them, so that no step leaves work to a later one. Arrays that are held are
    copied when the next step writes to them. ``hidden`` [wanted, width] are the hidden states that parts want, in the
    same order; None if none wants any.
    """

    logits: mx.array
    state: list[mx.array]
    hidden: mx.array | None = None

    def wait(self) -> mx.array:
        """Return the logits, evaluated."""
        mx.eval(self.logits, self.state)
        return self.logits

    def states(self) -> mx.array:
        """Return ``hidden``, which parts want; unevaluated."""
        assert self.hidden is not None
        return self.hidden


class LateOutput(NamedTuple):
    """The result of a pass that is computed apart.

    ``results`` waits for it, and returns logits and hidden states as ``StepOutput`` has them. It may be called again.
    """

    results: Callable[[], tuple[NDArray[np.float32], NDArray[np.float32] | None]]

    def logits(self) -> NDArray[np.float32]:
        """Return the logits once they are computed."""
        return self.results()[0]

    def wait(self) -> mx.array:
        """Return the logits once they are computed."""
        return mx.array(self.logits())

    def states(self) -> mx.array:
        """Return the hidden states, which parts want, once they are computed."""
        hidden = self.results()[1]
        assert hidden is not None
        return mx.array(hidden)


class NotTruncatable(Exception):
    """A row cannot be truncated to the wanted length, because the state that it had there is gone."""


class Forward(Protocol):
    """Rows of cache, numbered by the caller. Nothing is evaluated here unless it says so."""

    name: ForwardName
    """Its name for hosts."""
    spec: CacheSpec
    """The parts of a segment that a row needs to go on with it."""
    uncacheable: str
    """Why nothing of a row can be captured; "" where it can."""
    untruncatable: str
    """Why no row can be truncated; "" where the tokens of a short part (``SHORT_TOKENS``) always can be taken back."""
    computes_apart: bool
    """Whether it computes a pass on a thread of its own, for which the tokens must be known."""
    captured: bool
    """Whether rows will be captured: set by the batch that does."""

    @property
    def adapted_rows(self) -> AdaptedRows | None:
        """Its rows, to which adapters are given; None where they take none."""
        ...

    def open(self, row: int, expected: int, match: PrefixMatch = NOTHING) -> None:
        """Make a row for ``expected`` tokens that begins with the prefix in ``match``."""

    def checkpoint_at(self, row: int, position: int) -> None:
        """Let other rows go on at ``position``, which ``row`` has yet to come to.

        A forward whose rows cannot go on everywhere makes a checkpoint there.
        """

    def close(self, row: int) -> None:
        """Forget a row."""

    def capture(self, row: int, start: int, stop: int) -> list[Segment]:
        """Return tokens ``start`` to ``stop`` of a row, as far as it has them, for others to begin with.

        A block begins at ``start``. Called after each step that goes beyond the end of a block; if it is called later,
        a part may be gone.
        """
        ...

    def run(self, step: StepInput) -> StepOutput | LateOutput:
        """Make one pass, lazily or apart. Rows that are not named stay as they are."""
        ...

    def truncate(self, row: int, length: int) -> None:
        """Let a row hold its first ``length`` tokens only.

        Where a layer has a window, and for mlx-lm's own caches, the rest must have come with its last part. Keys and
        values of dropped tokens stay in memory until others take their place, so they must be numbers. Raises
        ``NotTruncatable`` and leaves the row as it is where ``untruncatable`` says why, for such tokens of an earlier
        part, and where a window has spilled.
        """

    @property
    def reclaimable_bytes(self) -> int:
        """Bytes of rows that were closed, which the next ones may have."""
        ...

    def release(self) -> None:
        """Give the memory of closed rows back."""

    def reset(self) -> None:
        """Forget everything, because after a failure the contents of the arrays are unknown."""
