"""The store holds all open sessions of a front, within bounds of their number and their bytes."""

from __future__ import annotations

import secrets
import time
import weakref
from collections.abc import Callable

from mlx_sidecar_protocol.errors import Overloaded, UnknownSession

from .session import Session, Shared
from .turn import Turn

_ID_BYTES = 12
_SOON_S = 1.0  # to try again after, where nothing tells when there is room


def new_id(kind: str) -> str:
    """An id that cannot be guessed; ``kind`` begins it."""
    return f"{kind}_{secrets.token_hex(_ID_BYTES)}"


class SessionStore:
    """Nothing is ever evicted: at a bound the request that needs more is refused. Used on the event loop alone.

    A turn's bytes are counted as long as anything refers to it: a session, a later turn, or a request.
    """

    def __init__(self, limit: int, limit_bytes: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = limit
        self._limit_bytes = limit_bytes
        self._clock = clock
        self._sessions: dict[str, Session] = {}
        self._held_bytes = 0

    def __len__(self) -> int:
        self._expire()
        return len(self._sessions)

    @property
    def held_bytes(self) -> int:
        """About the bytes of all turns, and of those that requests may add."""
        return self._held_bytes

    @property
    def free_bytes(self) -> int:
        return max(0, self._limit_bytes - self._held_bytes)

    def open(self, shared: Shared, base: Turn, ttl_s: float | None) -> Session:
        """A new session that begins at ``base``. Raises Overloaded if there are too many."""
        if len(self._sessions) >= self._limit:
            self._expire()
        if len(self._sessions) >= self._limit:
            raise Overloaded.with_sessions(
                have=len(self._sessions), limit=self._limit, retry_after_s=self._next_end_s()
            )
        session = Session(new_id("session"), shared, base, ttl_s, self._clock())
        self._sessions[session.id] = session
        return session

    def find(self, id_: str) -> Session:
        """The session with this id, which is used by that. Raises UnknownSession."""
        session, now = self._sessions.get(id_), self._clock()
        if session is not None and not _has_expired(session, now):
            session.used_s = now
            return session
        if session is not None:
            self.close(session)
        raise UnknownSession(id_)

    def close(self, session: Session) -> None:
        """Forget a session; requests that run in it end as they would, and add no turn."""
        self._sessions.pop(session.id, None)
        session.empty()

    def touch(self, session: Session) -> None:
        """A request in it has ended."""
        session.used_s = self._clock()

    def is_open(self, session: Session) -> bool:
        return session.id in self._sessions

    def counted(self, held: Shared | Turn) -> None:
        """Count its bytes until it is gone."""
        self._held_bytes += held.nbytes
        # Called when the last reference goes, which is at once: turns refer to their parents, never to children.
        weakref.finalize(held, self._release, held.nbytes).atexit = False

    def reserve(self, nbytes: int) -> Callable[[], None]:
        """Take room for what a request may add; the function that is returned gives it back.

        Raises Overloaded, whose unit is bytes, if there is none.
        """
        if nbytes > self.free_bytes:
            self._expire()
        if nbytes > self.free_bytes:
            raise Overloaded.in_bytes(
                "sessions",
                have_bytes=self._held_bytes,
                limit_bytes=self._limit_bytes,
                retry_after_s=self._next_end_s(),
            )
        self._held_bytes += nbytes
        return lambda: self._release(nbytes)

    def _release(self, nbytes: int) -> None:
        self._held_bytes -= nbytes

    def _expire(self) -> None:
        now = self._clock()
        for session in [each for each in self._sessions.values() if _has_expired(each, now)]:
            self.close(session)

    def _next_end_s(self) -> float:
        """Seconds until the next session expires, if nothing uses it."""
        ends = [each.used_s + each.ttl_s for each in self._sessions.values() if each.ttl_s and not each.running]
        return max(_SOON_S, min(ends, default=0.0) - self._clock())


def _has_expired(session: Session, now: float) -> bool:
    return session.ttl_s is not None and not session.running and now >= session.used_s + session.ttl_s
