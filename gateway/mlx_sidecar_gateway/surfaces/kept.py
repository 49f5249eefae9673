"""Responses that are kept for a while, so that later requests can continue them. Bounded by number, bytes and time."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

LIMIT: Final = 1000
LIMIT_BYTES: Final = 32 * 2**20  # of JSON
TTL_S: Final = 3600.0

# The sidecar's sessions take 4 bytes for each token and the messages, at most five times as much as the text alone. The
# rest is for requests that run.
_SESSION_BYTES: Final = 8


@dataclass(frozen=True)
class Setting:
    """The facts that all turns of one of the sidecar's sessions share. ``model`` is the sidecar's name."""

    model: str
    instructions: str | None
    tools: list[dict[str, Any]]
    template_args: Mapping[str, Any]


@dataclass(frozen=True)
class Kept:
    """A response, with the turn of a session that it is.

    body: The response object, as JSON.
    items: The items of its input, as a list in JSON.
    session, turn: The sidecar's; no other response has this session.
    lead: System messages that the whole chat began with, behind the instructions.
    names: Of all tools that were called until its end, by the call's id.
    owner: The caller that it was made for; no other may name it.
    chat: As a list in JSON, the messages of the chat until its answer, without the system message that it began with;
        of a response that another engine than the own sidecar made, and that has no session (``session`` is empty).
    """

    id: str
    body: bytes
    items: bytes
    session: str
    turn: str
    setting: Setting
    lead: tuple[str, ...] = ()
    names: Mapping[str, str] = field(default_factory=dict)
    owner: str = ""
    chat: bytes = b""

    @property
    def nbytes(self) -> int:
        """About the memory that it takes."""
        return len(self.body) + len(self.items) + len(self.chat)


class KeptResponses:
    """The responses that are kept. At a bound the one goes that was longest neither made nor continued.

    Nothing here does I/O: the sessions of those that went are to be closed by ``take_sessions``.
    """

    def __init__(
        self,
        limit: int = LIMIT,
        limit_bytes: int = LIMIT_BYTES,
        ttl_s: float = TTL_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.ttl_s = ttl_s
        self._limit, self._limit_bytes = limit, limit_bytes
        self._clock = clock
        self._by_id: OrderedDict[str, tuple[Kept, float]] = OrderedDict()  # the one first that was used longest ago
        self._nbytes = 0
        self._sessions: list[str] = []

    def fit(self, sessions_bytes: int) -> None:
        """Keep no more than goes into as many bytes of sessions."""
        self._limit_bytes = min(self._limit_bytes, sessions_bytes // _SESSION_BYTES)
        self._keep_bounds()

    def __len__(self) -> int:
        return len(self._by_id)

    @property
    def nbytes(self) -> int:
        """About the memory that all take."""
        return self._nbytes

    def get(self, id_: str, owner: str = "") -> Kept | None:
        """The response with this id, if it is still kept and the ``owner``'s."""
        self._expire()
        kept, _ = self._by_id.get(id_, (None, 0.0))
        return kept if kept is not None and kept.owner == owner else None

    def used(self, kept: Kept) -> None:
        """Keep a response for longer, because it is continued."""
        if kept.id in self._by_id:
            self._by_id[kept.id] = (kept, self._clock())
            self._by_id.move_to_end(kept.id)

    def add(self, kept: Kept) -> None:
        """Keep a response, and its session, unless it alone is beyond the bound."""
        self._expire()
        self._by_id[kept.id] = (kept, self._clock())
        self._nbytes += kept.nbytes
        self._keep_bounds()

    def remove(self, id_: str) -> bool:
        """Forget a response; False if there is none with this id."""
        self._expire()
        if id_ not in self._by_id:
            return False
        self._forget(id_)
        return True

    def drop_oldest(self) -> bool:
        """Forget the one that was used longest ago; False if there is none."""
        if not self._by_id:
            return False
        self._forget(next(iter(self._by_id)))
        return True

    def take_sessions(self) -> list[str]:
        """The sessions that nothing needs any more, which the caller closes."""
        taken, self._sessions = self._sessions, []
        return taken

    def leave(self, session: str) -> None:
        """Have a session closed that no response is kept of."""
        self._sessions.append(session)

    def _keep_bounds(self) -> None:
        while len(self._by_id) > self._limit or self._nbytes > self._limit_bytes:
            self.drop_oldest()

    def _expire(self) -> None:
        until_s = self._clock() - self.ttl_s
        while self._by_id and next(iter(self._by_id.values()))[1] <= until_s:
            self.drop_oldest()

    def _forget(self, id_: str) -> None:
        kept, _ = self._by_id.pop(id_)
        self._nbytes -= kept.nbytes
        if kept.session:
            self._sessions.append(kept.session)
