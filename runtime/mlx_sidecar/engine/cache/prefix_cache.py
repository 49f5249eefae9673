"""The prefix cache as the engine sees it: one store for all models, the prefixes of each, and their files on disk."""

from __future__ import annotations

from array import array
from collections import deque

from .disk_index import DiskIndex
from .prefix_match import CacheSpec
from .prefixes import Prefixes
from .segment import Segment
from .store import Store


class PrefixCache:
    """The store, the disk index and the prefixes of all models. Used by the step loop only."""

    def __init__(self, store: Store, disk: DiskIndex) -> None:
        self.store = store
        self.disk = disk
        store.superseded = disk.superseded
        self._models: dict[str, Prefixes] = {}
        self._users: dict[str, int] = {}
        self._unwritten: deque[tuple[Prefixes, array[int], Segment]] = deque()

    def prefixes(self, identity: str, spec: CacheSpec) -> Prefixes | None:
        """Return the prefixes of a model that has been loaded; None if the cache is off.

        Models of one identity share their prefixes.
        """
        if not self.store.enabled:
            return None
        if identity not in self._models:
            self._models[identity] = Prefixes(self.store, identity, spec, self._stored)
            self.disk.attach(self._models[identity])
        self._users[identity] = self._users.get(identity, 0) + 1
        return self._models[identity]

    def leave(self, prefixes: Prefixes) -> None:
        """Let a model go; with the last one of its identity, its blocks in memory are forgotten."""
        self._users[prefixes.identity] -= 1
        if not self._users[prefixes.identity]:
            del self._users[prefixes.identity]
            self.write()
            self.disk.detach(prefixes)
            self._models.pop(prefixes.identity).close()

    def has(self, prefixes: Prefixes) -> bool:
        """Whether the model of ``prefixes`` is still loaded."""
        return self._models.get(prefixes.identity) is prefixes

    def clear(self, prefixes: Prefixes | None) -> int:
        """Forget the blocks in memory of one model, or of all, unwritten ones too; return how many bytes they had."""
        cleared = list(self._models.values()) if prefixes is None else [prefixes]
        self._unwritten = deque(each for each in self._unwritten if each[0] not in cleared)
        return sum(each.clear() for each in cleared)

    def _stored(self, prefixes: Prefixes, tokens: array[int], segment: Segment) -> None:
        if self.disk.on:
            self._unwritten.append((prefixes, tokens, segment))

    @property
    def unwritten_bytes(self) -> int:
        """Bytes of segments that have not been handed to the disk yet."""
        return sum(segment.nbytes for _, _, segment in self._unwritten)

    def write(self) -> None:
        """Hand new segments to the disk. Call it late, because it waits for what the device is computing of them."""
        while self._unwritten:
            self.disk.keep(*self._unwritten.popleft())
