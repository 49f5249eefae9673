"""The cache as the engine sees it: one store for all models, the prefixes of each, and what is on disk of them."""

from __future__ import annotations

from array import array
from collections import deque

from .disk_index import DiskIndex
from .prefix_match import CacheSpec
from .prefixes import Prefixes
from .segment import Segment
from .store import Store


class PrefixCache:
    """Used by the step loop only."""

    def __init__(self, store: Store, disk: DiskIndex) -> None:
        self.store = store
        self.disk = disk
        store.superseded = disk.superseded
        self._models: dict[str, Prefixes] = {}
        self._users: dict[str, int] = {}
        self._unwritten: deque[tuple[Prefixes, array[int], Segment]] = deque()

    def prefixes(self, identity: str, spec: CacheSpec) -> Prefixes | None:
        """Those of a model that has been loaded; models of one identity share them. None if the cache is off."""
        if not self.store.enabled:
            return None
        if identity not in self._models:
            self._models[identity] = Prefixes(self.store, identity, spec, self._stored)
            self.disk.attach(self._models[identity])
        self._users[identity] = self._users.get(identity, 0) + 1
        return self._models[identity]

    def leave(self, prefixes: Prefixes) -> None:
        """A model is gone. With the last of its identity goes what is in memory."""
        self._users[prefixes.identity] -= 1
        if not self._users[prefixes.identity]:
            del self._users[prefixes.identity]
            self.write()
            self.disk.detach(prefixes)
            self._models.pop(prefixes.identity).close()

    def has(self, prefixes: Prefixes) -> bool:
        """Whether its model is still there."""
        return self._models.get(prefixes.identity) is prefixes

    def clear(self, prefixes: Prefixes | None) -> int:
        """Forget what is in memory of one model, or of all, and write nothing of it; how many bytes that was."""
        cleared = list(self._models.values()) if prefixes is None else [prefixes]
        self._unwritten = deque(each for each in self._unwritten if each[0] not in cleared)
        return sum(each.clear() for each in cleared)

    def _stored(self, prefixes: Prefixes, tokens: array[int], segment: Segment) -> None:
        if self.disk.on:
            self._unwritten.append((prefixes, tokens, segment))

    @property
    def unwritten_bytes(self) -> int:
        """What has not been handed over to the disk yet."""
        return sum(segment.nbytes for _, _, segment in self._unwritten)

    def write(self) -> None:
        """Hand what is new over to the disk. What has just been asked of the device is waited for: call it later."""
        while self._unwritten:
            self.disk.keep(*self._unwritten.popleft())
