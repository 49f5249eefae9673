"""The life of a connection as a table, and the version both sides speak."""

from __future__ import annotations

from enum import Enum

from . import PROTOCOL_VERSION
from .errors import InvalidRequest, NotInitialized, RpcError, ShuttingDown


class State(Enum):
    NEW = "new"  # nothing has been asked yet
    READY = "ready"
    DRAINING = "draining"  # shutdown was asked: what runs may end, nothing new begins
    ENDED = "ended"  # exit was asked


# What each message does; any other method is "work". A pair that is missing is refused by _REFUSED.
NEXT: dict[tuple[State, str], State] = {
    (State.NEW, "initialize"): State.READY,
    (State.NEW, "work"): State.READY,  # a connection without initialize speaks version 1
    (State.NEW, "shutdown"): State.DRAINING,
    (State.NEW, "exit"): State.ENDED,
    (State.READY, "initialized"): State.READY,
    (State.READY, "work"): State.READY,
    (State.READY, "shutdown"): State.DRAINING,
    (State.READY, "exit"): State.ENDED,
    (State.DRAINING, "initialized"): State.DRAINING,
    (State.DRAINING, "exit"): State.ENDED,
}

# Methods with an event of their own; whoever serves them calls ``advance`` once their parameters are known to be good.
EVENTS = frozenset({"initialize", "initialized", "shutdown", "exit"})


class Lifecycle:
    """Where a connection stands.

    ``passive`` methods (``ping``, cancelling) neither begin a connection nor are they refused at its end.
    """

    def __init__(self, passive: frozenset[str] = frozenset()) -> None:
        self.state = State.NEW
        self._passive = passive
        self._shut_down = False

    def refusal(self, method: str) -> RpcError | None:
        """Why ``method`` cannot be taken now; None if it can."""
        if method in self._passive or (self.state, _event(method)) in NEXT:
            return None
        if method == "initialize" and self.state is State.READY:
            return InvalidRequest("initialize must come first, and once")
        if method == "initialized" and self.state is State.NEW:
            return NotInitialized("initialize comes before initialized")
        return ShuttingDown()

    def advance(self, method: str) -> None:
        """Note that ``method`` has been taken. Raises what ``refusal`` gives."""
        error = self.refusal(method)
        if error is not None:
            raise error
        if method not in self._passive:
            self.state = NEXT[self.state, _event(method)]
            self._shut_down |= method == "shutdown"

    def admit(self, method: str) -> RpcError | None:
        """Why ``method`` cannot be taken now. If it can and is work, it has been taken; the rest calls ``advance``."""
        if self.state is State.READY and method not in EVENTS:
            return None
        error = self.refusal(method)
        if error is None and method not in EVENTS:
            self.advance(method)
        return error

    @property
    def exit_code(self) -> int:
        """Status for ``exit``: 0 after a shutdown, else 1."""
        return 0 if self._shut_down else 1


def _event(method: str) -> str:
    return method if method in EVENTS else "work"


def negotiate(host_version: int) -> int:
    """The highest protocol version both sides speak, where the host speaks all up to ``host_version`` (at least 1)."""
    return min(host_version, PROTOCOL_VERSION)
