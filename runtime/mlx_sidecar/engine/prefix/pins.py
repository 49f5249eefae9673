"""Pins keep prompts in the prefix cache until they are forgotten by name, as far as there is room for them."""

from __future__ import annotations

from array import array

from mlx_sidecar_protocol.errors import OutOfMemory, UnsupportedParameter

from ...link.messages import Prefill
from ..cache.prefix_cache import PrefixCache
from ..core.preparer import Preparer
from ..core.sequence import Sequence
from ..resident_models import ResidentModels


class Pins(Preparer):
    """Refuses a prompt that cannot be pinned before it is computed, and pins one that was computed."""

    name = "pin"

    def __init__(self, models: ResidentModels, prefix_cache: PrefixCache | None) -> None:
        self._models = models
        self._prefix_cache = prefix_cache

    def check(self, sequence: Sequence) -> None:
        """Raise ``UnsupportedParameter`` for a model of which nothing can be cached, ``OutOfMemory`` where there is no
        room for another pin."""
        if not _wanted(sequence):
            return
        loaded = self._models.resident(sequence.model).loaded
        if self._prefix_cache is None or loaded.prefixes is None:
            raise UnsupportedParameter("model", loaded.uncacheable)
        store = self._prefix_cache.store
        need_bytes, have_bytes = (
            sequence.asked.cost.all_bytes(len(sequence.tokens)),
            store.limit_bytes - store.pinned_bytes,
        )
        if need_bytes > have_bytes and not loaded.prefixes.has_pin(sequence.history()):
            raise OutOfMemory(need_bytes=need_bytes, have_bytes=have_bytes)

    def pin(self, sequence: Sequence) -> int:
        """Pin the computed prompt of ``sequence``, if that is asked; return how many tokens of it stay."""
        prefixes = self._models.resident(sequence.model).loaded.prefixes
        return prefixes.pin(array("i", sequence.tokens)) if _wanted(sequence) and prefixes is not None else 0


def _wanted(sequence: Sequence) -> bool:
    goal = sequence.asked.goal
    return isinstance(goal, Prefill) and goal.pin
