"""The memory ledger has the bytes that each owner holds, and those left of the limit."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import NamedTuple

# Kinds of owners.
WEIGHTS = "weights"  # a model, resident or being loaded
SEQUENCES = "sequences"  # a sequence that holds a cache, with the room it is about to take
GRAMMARS = "grammars"  # the tokenizer of a model's grammars
ADAPTERS = "adapters"  # the adapters of a model
CACHE = "cache"  # memory kept for requests that may come: it goes first where more is needed


class Owner(NamedTuple):
    """An owner is of a kind, and its name is unique in that kind."""

    kind: str
    name: Hashable


class MemoryLedger:
    """Each owner has one entry, and totals move with the entries: no question costs more with more owners.

    Most owners reserve what they are about to take. Some count for themselves what they hold, and are asked each time:
    a few at most, one for a model and one for the prefix cache.
    """

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self._entries: dict[Owner, int] = {}
        self._kinds: dict[str, int] = {}
        self._entered_bytes = 0
        self._meters: dict[Owner, Callable[[], int]] = {}

    def reserve(self, owner: Owner, nbytes: int) -> None:
        """Set the bytes that ``owner`` holds to ``nbytes``."""
        more_bytes = nbytes - self._entries.get(owner, 0)
        self._entries[owner] = nbytes
        self._enter(owner.kind, more_bytes)

    def meter(self, owner: Owner, held_bytes: Callable[[], int]) -> None:
        """Let ``owner`` count for itself: it holds as many bytes as ``held_bytes`` returns."""
        self._meters[owner] = held_bytes

    def release(self, owner: Owner) -> None:
        """Remove the entry of ``owner``. Raises ``KeyError`` if it has none."""
        if owner in self._meters:
            del self._meters[owner]
        else:
            self._enter(owner.kind, -self._entries.pop(owner))

    def bytes_of(self, kind: str) -> int:
        """Return the bytes that all owners of ``kind`` hold together."""
        metered = sum(held_bytes() for owner, held_bytes in self._meters.items() if owner.kind == kind)
        return self._kinds.get(kind, 0) + metered

    @property
    def held_bytes(self) -> int:
        """Bytes that all owners hold together."""
        return self._entered_bytes + sum(held_bytes() for held_bytes in self._meters.values())

    @property
    def free_bytes(self) -> int:
        """Bytes left of the limit; negative where more is held."""
        return self.limit_bytes - self.held_bytes

    def _enter(self, kind: str, more_bytes: int) -> None:
        self._kinds[kind] = self._kinds.get(kind, 0) + more_bytes
        self._entered_bytes += more_bytes
