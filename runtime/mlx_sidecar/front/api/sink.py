"""A sink stands between an operation and the connection that asked for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from mlx_sidecar_protocol.errors import RpcError

from ..streams.deltas import Deltas


class Sink(Protocol):
    """One request, as its operation sees it: how it is cancelled, and the text that goes out before its answer.

    Used on the event loop only. By default a cancel ends the operation where it waits, as Cancelled. An operation that
    can end by itself and still has something to say calls ``on_cancel`` and returns its result.
    """

    @property
    def cancelled(self) -> bool:
        """Whether a cancel has come."""
        ...

    def cancel(self) -> None:
        """Ask the request to end. Later calls do nothing."""

    def on_cancel(self, callback: Callable[[], None]) -> None:
        """From now on a cancel calls ``callback``, once, and leaves the operation running.

        A later call replaces the callback. If a cancel is already on its way, the callback is called at once.
        """

    def on_shed(self, callback: Callable[[RpcError], None]) -> None:
        """Call ``callback`` with an error, once, when the request should fail with it unless its work has begun."""

    def answer_after(self, deltas: Deltas, /) -> None:
        """Write the answer after all that ``deltas`` have announced by then, without waiting for them to be due."""
