"""A context tells a handler of the request that it serves, and brings it a cancel."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from mlx_sidecar_protocol.envelope import RequestId
from mlx_sidecar_protocol.errors import RpcError

from .mailbox import Source

if TYPE_CHECKING:
    from anyio import CancelScope


class RequestContext:
    """One request or notification in flight. Everything here is used in the event loop only.

    By default a cancel ends the handler where it waits, and the answer is ``cancelled`` (-32800). A handler that can
    end by itself and still has something to say calls ``on_cancel`` and returns its result.
    """

    __slots__ = (
        *("_cancelled", "_on_cancel", "_on_shed", "_scope", "_shed", "_sources"),
        *("id", "is_notification", "size_bytes"),
    )

    def __init__(self, id_: RequestId, is_notification: bool = False, size_bytes: int = 0) -> None:
        self.id = id_
        self.size_bytes = size_bytes  # of the message from the host
        self.is_notification = is_notification
        self._cancelled = False
        self._on_cancel: Callable[[], None] | None = None
        self._scope: CancelScope | None = None
        self._sources: tuple[Source, ...] = ()
        self._shed: RpcError | None = None
        self._on_shed: Callable[[RpcError], None] | None = None

    @property
    def cancelled(self) -> bool:
        """Whether a cancel has come."""
        return self._cancelled

    @property
    def sources(self) -> tuple[Source, ...]:
        """The streams whose text goes out before the answer."""
        return self._sources

    def on_cancel(self, callback: Callable[[], None]) -> None:
        """From now on a cancel calls ``callback``, once, and leaves the handler running.

        A later call replaces the callback. If a cancel is already on its way, the callback is called at once.
        """
        self._on_cancel = callback
        if self._cancelled:
            callback()

    def answer_after(self, source: Source) -> None:
        """Write the answer after all that ``source`` has announced by then, without waiting for it to be due."""
        self._sources += (source,)

    def on_shed(self, callback: Callable[[RpcError], None]) -> None:
        """Call ``callback`` with an error, once, when the request should fail with it unless its work has begun."""
        self._on_shed = callback
        if self._shed is not None:
            callback(self._shed)

    # For the session.

    def enter(self, scope: CancelScope) -> bool:
        """The handler is about to run, in ``scope``; False if it need not begin."""
        self._scope = scope
        return not self._cancelled or self._on_cancel is not None

    def shed(self, error: RpcError) -> None:
        """There is no room for another long answer: a request that can still be refused is, with ``error``.

        Later calls do nothing.
        """
        if self._shed is None:
            self._shed = error
            if self._on_shed is not None:
                self._on_shed(error)

    def cancel(self) -> None:
        """Ask the request to end. Later calls do nothing."""
        if self._cancelled:
            return
        self._cancelled = True
        if self._on_cancel is not None:
            self._on_cancel()
        elif self._scope is not None:
            self._scope.cancel()
