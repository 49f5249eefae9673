"""The cache as the engine sees it: one store for all models, and the prefixes of each."""

from __future__ import annotations

from .hits import Needs
from .prefixes import Prefixes
from .store import Store


class Caching:
    """Used by the step loop only."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._models: dict[str, Prefixes] = {}
        self._users: dict[str, int] = {}

    def prefixes(self, identity: str, needs: Needs) -> Prefixes | None:
        """Those of a model that has been loaded; models of one identity share them. None if the cache is off."""
        if not self.store.enabled:
            return None
        if identity not in self._models:
            self._models[identity] = Prefixes(self.store, identity, needs)
        self._users[identity] = self._users.get(identity, 0) + 1
        return self._models[identity]

    def leave(self, prefixes: Prefixes) -> None:
        """A model is gone. With the last of its identity goes what is in memory."""
        self._users[prefixes.identity] -= 1
        if not self._users[prefixes.identity]:
            del self._users[prefixes.identity]
            self._models.pop(prefixes.identity).close()
