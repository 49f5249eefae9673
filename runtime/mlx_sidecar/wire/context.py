"""What a handler knows of the request it serves, and how cancelling reaches it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from mlx_sidecar_protocol.envelope import RequestId

from .mailbox import Source

if TYPE_CHECKING:
    from anyio import CancelScope


class RequestContext:
    """One request or notification in flight. Everything here is used in the event loop only.

    By default a cancel ends the handler where it waits, and the answer is ``cancelled`` (-32800). A handler that can
    end by itself and still has something to say calls ``on_cancel`` and returns its result.
    """

    __slots__ = ("_cancelled", "_on_cancel", "_scope", "_sources", "id", "is_notification")

    def __init__(self, id_: RequestId, is_notification: bool = False) -> None:
        self.id = id_
        self.is_notification = is_notification
        self._cancelled = False
        self._on_cancel: Callable[[], None] | None = None
        self._scope: CancelScope | None = None
        self._sources: tuple[Source, ...] = ()

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

    # For the session.

    def enter(self, scope: CancelScope) -> bool:
        """The handler is about to run, in ``scope``; False if it need not begin."""
        self._scope = scope
        return not self._cancelled or self._on_cancel is not None

    def cancel(self) -> None:
        """Ask the request to end. Later calls do nothing."""
        if self._cancelled:
            return
        self._cancelled = True
        if self._on_cancel is not None:
            self._on_cancel()
        elif self._scope is not None:
            self._scope.cancel()
