"""The lifecycle of a connection as a table of states, and the protocol version that both sides speak."""

from __future__ import annotations

from enum import Enum

from . import PROTOCOL_VERSION
from .errors import InvalidRequest, NotInitialized, RpcError, ShuttingDown


class State(Enum):
    NEW = "new"  # before the first request
    READY = "ready"
    DRAINING = "draining"  # after shutdown: running requests may end, new ones are refused
    ENDED = "ended"  # after exit


# The next state by state and method; any other method is "work". Missing pairs are refused.
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

# Methods with an event of their own. Their handlers call ``advance`` once the parameters are known to be good.
EVENTS = frozenset({"initialize", "initialized", "shutdown", "exit"})


class Lifecycle:
    """The state of a connection, and the methods that it admits.

    ``passive`` methods (``ping``, cancelling) neither begin a connection nor are refused at its end.
    """

    def __init__(self, passive: frozenset[str] = frozenset()) -> None:
        self.state = State.NEW
        self.passive = passive
        self._shut_down = False

    def refusal(self, method: str) -> RpcError | None:
        """The error for ``method`` in the present state; None if it can be taken."""
        if method in self.passive or (self.state, _event(method)) in NEXT:
            return None
        if method == "initialize" and self.state is State.READY:
            return InvalidRequest("initialize must come first, and once")
        if method == "initialized" and self.state is State.NEW:
            return NotInitialized("initialize comes before initialized")
        return ShuttingDown()

    def advance(self, method: str) -> None:
        """Go to the state after ``method``. Raises the error of ``refusal``, if there is one."""
        error = self.refusal(method)
        if error is not None:
            raise error
        if method not in self.passive:
            self.state = NEXT[self.state, _event(method)]
            self._shut_down |= method == "shutdown"

    def admit(self, method: str) -> RpcError | None:
        """The error for ``method``, or None. Work is taken at once; handlers of ``EVENTS`` call ``advance``."""
        if self.state is State.READY and method not in EVENTS:
            return None
        error = self.refusal(method)
        if error is None and method not in EVENTS:
            self.advance(method)
        return error

    @property
    def exit_code(self) -> int:
        """The exit status: 0 after a shutdown, else 1."""
        return 0 if self._shut_down else 1


def _event(method: str) -> str:
    return method if method in EVENTS else "work"


def negotiate(host_version: int) -> int:
    """The highest protocol version that both sides speak; the host speaks all from 1 to ``host_version``."""
    return min(host_version, PROTOCOL_VERSION)
