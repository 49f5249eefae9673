"""The records of models that are ready and of loads in progress, and the backend that loads them."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, NamedTuple, Protocol

import msgspec

from ...link.control_messages import Load, ModelCard
from ...link.messages import Vocabulary
from .adapter import Adaptable
from .batch import Batch
from .memory_cost import SequenceCost
from .sequence import Sequence

if TYPE_CHECKING:  # it brings mlx, which the fake engine does without
    from ..cache.prefixes import Prefixes


class LoadStep(NamedTuple):
    """The progress of a load. ``not_before_s``, on the engine's clock, is when its next step is due.

    ``needs_bytes``: from here on it holds so many, where that is more than was estimated.
    """

    stage: str
    done_bytes: int
    total_bytes: int
    not_before_s: float = 0.0
    needs_bytes: int = 0


class LoadedModel(NamedTuple):
    """A directory as a backend has loaded it. ``prefixes`` is this model's part of the prefix cache.

    ``vocabulary`` is set where the backend knows the bytes of tokens by itself, ``adaptable`` where requests may name
    adapters.
    """

    card: ModelCard
    batch: Batch
    cost: SequenceCost
    prefixes: Prefixes | None = None
    vocabulary: Vocabulary | None = None
    adaptable: Adaptable | None = None

    def prefixes_of(self, sequence: Sequence) -> Prefixes | None:
        """Return the part of the prefix cache for ``sequence``: with an adapter keys and values are others."""
        adapter = sequence.asked.adapter
        if adapter is None or self.prefixes is None or self.adaptable is None:
            return self.prefixes
        return self.adaptable.prefixes.get(adapter)

    @property
    def uncacheable(self) -> str:
        """Why nothing of the model can be cached; "" where it can."""
        return self.card.lacks("prefix_cache")


class Backend(Protocol):
    """A backend loads weights to its device and frees them."""

    def prove(self) -> None:
        """Compute something trivial on the device. Raises ``EngineLost`` if that cannot be done or comes out wrong."""

    def estimate(self, load: Load) -> int:
        """Return the bytes the model will hold once loaded. Raises what is wrong with the directory before any read."""
        ...

    def load(self, load: Load) -> Generator[LoadStep, None, LoadedModel]:
        """Load in bounded steps. Raises typed errors; a generator that is closed or fails leaves nothing behind."""
        ...

    def reclaim(self) -> None:
        """Give the memory of models that were dropped back to the system."""

    def gauges(self) -> dict[str, float]:
        """Memory as the backend sees it."""
        ...


@dataclass
class Resident:
    """A model that is ready. Times are of the engine's clock.

    Its last step was begun at ``stepped_s``. The device is at the step in flight since ``device_since_s``.
    """

    load: Load
    loaded: LoadedModel
    pinned: bool
    ttl_s: float | None
    last_used_s: float
    stepped_s: float = -inf
    device_since_s: float = -inf

    @property
    def expires_s(self) -> float:
        return float("inf") if self.ttl_s is None else self.last_used_s + self.ttl_s

    def card(self, now: float, streams: int) -> ModelCard:
        return msgspec.structs.replace(
            self.loaded.card, last_used_s=max(0.0, now - self.last_used_s), pinned=self.pinned, streams=streams
        )


@dataclass
class Loading:
    """A load in progress, or in the queue for it while ``steps`` is None. ``ops`` are all that wait for it."""

    load: Load
    ops: list[int]
    pinned: bool
    ttl_s: float | None
    steps: Generator[LoadStep, None, LoadedModel] | None = None
    estimated_bytes: int = 0  # what it is given room for when it begins
    began_s: float = 0.0
    due_s: float = 0.0
