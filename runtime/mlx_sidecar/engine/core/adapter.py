"""A low-rank adapter as numbers, and what of a model takes it: the projections, and the forward that computes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:  # it brings mlx, which the fake engine does without
    import numpy as np
    from numpy.typing import NDArray

    from ..cache.prefixes import Prefixes


class Projection(NamedTuple):
    """A module of a model: its ``inputs`` and ``outputs`` in numbers for a token, or ``because``, why it stays."""

    inputs: int
    outputs: int
    because: str = ""


class LowRank(NamedTuple):
    """The term of an adapter for a projection of x: (x aᵀ) bᵀ. ``a`` [rank, inputs], ``b`` [outputs, rank], float32.

    The adapter's scale is in ``b``.
    """

    a: NDArray[np.float32]
    b: NDArray[np.float32]


Pairs = Mapping[str, LowRank]
"""The pairs of an adapter, by the path of the projection in the model."""


class AdaptedRows(Protocol):
    """The rows of a forward, each of which may use an adapter. Used by the step loop only."""

    @property
    def projections(self) -> Mapping[str, Projection]:
        """All modules with weights, by their paths."""
        ...

    @property
    def held_bytes(self) -> int:
        """Bytes of all adapters that are attached."""
        ...

    def attach(self, adapter: str, pairs: Pairs) -> None:
        """Take in ``adapter``, whose pairs fit the projections."""

    def detach(self, adapter: str) -> None:
        """Drop ``adapter``, which no row uses."""

    def use(self, row: int, adapter: str) -> None:
        """Let ``row``, which is open, be computed with ``adapter`` until it is closed."""

    def is_used(self, adapter: str) -> bool:
        """Whether a row uses ``adapter``."""
        ...


@dataclass(frozen=True)
class Adaptable:
    """A loaded model that takes adapters: the rows of its forward, and the prefix cache's part of each adapter."""

    rows: AdaptedRows
    prefixes: dict[str, Prefixes] = field(default_factory=dict)
