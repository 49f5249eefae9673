"""A request on its way, with its waiting deltas and its one answer."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import anyio

from .errors import SidecarLost, from_wire
from .protocol.envelope import Response


class Call:
    """One request of a connection; used in the event loop's thread alone."""

    def __init__(self, id_: int, stream: str | None) -> None:
        self.id = id_
        self.stream = stream
        self.deltas: deque[dict[str, Any]] = deque()
        self._outcome: Response | SidecarLost | None = None
        self._news: anyio.Event | None = None  # set while a caller waits
        self._event: type[anyio.Event] | None = None
        self._pass_on: Callable[[], bool] | None = None  # of the caller that waits
        self._problem: Exception | None = None  # of ``_pass_on``

    @property
    def is_settled(self) -> bool:
        """Whether nothing more will come."""
        return self._outcome is not None

    @property
    def is_lost(self) -> bool:
        """Whether its sidecar ended before the answer."""
        return isinstance(self._outcome, SidecarLost)

    def tell_of_deltas(self) -> None:
        """Deltas have been added, all of one read: pass them on, or wake the caller that waits."""
        if self._pass_on is not None:
            try:
                if self._pass_on():
                    return
            except Exception as error:  # noqa: BLE001 - raised where the caller waits, because the reader must go on
                self._problem = error
            self._pass_on = None  # further deltas wait for the caller, which has yet to run
        self._wake()

    def settle(self, outcome: Response | SidecarLost) -> None:
        self._outcome = outcome
        self._wake()

    async def wait_for_news(self, pass_on: Callable[[], bool] | None = None) -> None:
        """Return when a delta or the answer has come.

        ``pass_on`` is called meanwhile, in the turn of the event loop in which deltas are read; if it returns True they
        are no news. An exception of it is raised here.
        """
        if not self.deltas and self._outcome is None:
            # The class behind ``anyio.Event`` is asked for once, because that is half of the cost of an event.
            self._event = self._event or type(anyio.Event())
            self._news, self._pass_on = self._event(), pass_on
            try:
                await self._news.wait()
            finally:
                self._pass_on = None
            if self._problem is not None:
                raise self._problem

    async def answer(self) -> dict[str, Any]:
        """Wait for the result.

        Raises:
            RpcError: The answer is an error.
            SidecarLost: The sidecar ended before the answer.
        """
        while self._outcome is None:
            self.deltas.clear()
            await self.wait_for_news()
        return self.result()

    def result(self) -> dict[str, Any]:
        """The result of a settled call; raises like ``answer``."""
        if isinstance(self._outcome, SidecarLost):
            raise self._outcome.anew()
        assert self._outcome is not None
        if self._outcome.error is not None:
            raise from_wire(self._outcome.error)
        return dict(self._outcome.result)

    def _wake(self) -> None:
        if self._news is not None:
            self._news.set()
            self._news = None
