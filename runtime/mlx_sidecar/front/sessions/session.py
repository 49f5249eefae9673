"""A session is a host's handle on a chat: the turns that were made under it, and the turn that it was begun at."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mlx_sidecar_protocol.errors import InvalidParams

from .turn import Turn, ancestors


@dataclass(frozen=True)
class Shared:
    """The facts that all turns of a session, and of those forked from it, share. ``nbytes``: roughly their size."""

    model: str
    tools: Sequence[Mapping[str, Any]] | None
    template_args: Mapping[str, Any] | None
    nbytes: int = 0


@dataclass(eq=False)
class Session:
    """``base`` is the turn that it was opened or forked at; it may be another session's as well.

    ``latest`` is the turn that a request without ``at`` continues. ``running`` requests keep it from expiring;
    ``used_s`` is when it was last used, on the store's clock.
    """

    id: str
    shared: Shared
    base: Turn
    ttl_s: float | None
    used_s: float
    running: int = 0
    _own: dict[str, Turn] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.latest = self.base

    @property
    def turns(self) -> list[Turn]:
        """All its turns, parents before children."""
        return [*self.base.path, *self._own.values()]

    @property
    def nbytes(self) -> int:
        """About the memory that the turns on its way and its own take; forks have some of them in common."""
        return sum(turn.nbytes for turn in self.turns)

    def turn(self, id_: str | None, field_name: str) -> Turn:
        """The turn with this id; without one the latest. Raises InvalidParams naming ``field_name`` if none has it."""
        if id_ is None:
            return self.latest
        found = self._own.get(id_) or next((turn for turn in ancestors(self.base) if turn.id == id_), None)
        if found is None:
            raise InvalidParams.field(field_name, f"the session has no turn {id_!r}", "unknown_turn")
        return found

    def add(self, turn: Turn) -> bool:
        """Take in a child of one of its turns, as the latest; False if the parent was removed meanwhile."""
        if turn.parent is None or not self._has(turn.parent):
            return False
        self._own[turn.id] = self.latest = turn
        return True

    def empty(self) -> None:
        """Forget all turns, because an error in a cycle of references may keep the session itself for a while."""
        self._own.clear()
        self.base = self.latest = Turn("")

    def behind(self, turn: Turn) -> list[Turn]:
        """Its turns behind ``turn``, parents before children."""
        return list(self._behind(turn))

    def roll_back(self, turn: Turn) -> list[Turn]:
        """Remove all turns behind ``turn``, which becomes the latest; returns those removed."""
        removed = self.behind(turn)
        for gone in removed:
            self._own.pop(gone.id, None)
        if turn.id not in self._own:
            self.base = turn
        self.latest = turn
        return removed

    def _behind(self, turn: Turn) -> Iterator[Turn]:
        found = {turn.id}
        for each in self.turns:
            if each.parent is not None and each.parent.id in found:
                found.add(each.id)
                yield each

    def _has(self, turn: Turn) -> bool:
        return turn.id in self._own or any(each is turn for each in ancestors(self.base))
