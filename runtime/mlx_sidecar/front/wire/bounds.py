"""Bounds limit how much of a host's requests and answers is held at once; requests beyond them are refused."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from mlx_sidecar_protocol.errors import Overloaded, RpcError

from .mailbox import Mailbox

OPEN_LIMIT = 4096  # requests with a task of their own; a host that has more is not waiting for answers
ANSWERS_LIMIT_BYTES = 16 * 2**20  # answers that the host has not fetched
REQUESTS_LIMIT_BYTES = 32 * 2**20  # requests that are being worked on
LARGE_BYTES = 2 * 2**20  # of a request: one such at a time, because work on it takes many times its size
_RETRY_AFTER_S = 1.0


class Bounds:
    """The counts of one connection, on its event loop."""

    def __init__(
        self,
        mailbox: Mailbox,
        requests_limit_bytes: int = REQUESTS_LIMIT_BYTES,
        answers_limit_bytes: int = ANSWERS_LIMIT_BYTES,
    ) -> None:
        self._mailbox = mailbox
        self._requests_limit_bytes = requests_limit_bytes
        self._answers_limit_bytes = answers_limit_bytes
        self._requests_bytes = 0
        self._large_bytes = 0

    @property
    def must_wait(self) -> bool:
        """Whether too much waits to be written. An incomplete batch does not count: it would wait for itself."""
        return self._mailbox.waiting_bytes > self._answers_limit_bytes

    def wait_for_room(self, go_on: Callable[[], None]) -> bool:
        """If too much waits to be written, call ``go_on`` in the loop once all that waits now has been taken."""
        if not self.must_wait:
            return False
        loop = asyncio.get_running_loop()

        def taken() -> None:
            loop.call_soon_threadsafe(go_on)

        self._mailbox.put(taken)
        return True

    def too_many_answers(self) -> RpcError | None:
        """Why no request is begun whose answer may be long; None if there is room for one."""
        have_bytes = self._mailbox.waiting_bytes + self._mailbox.collected_bytes
        if have_bytes <= self._answers_limit_bytes:
            return None
        what, limit_bytes = "answers that were not read", self._answers_limit_bytes
        return Overloaded.in_bytes(what, have_bytes=have_bytes, limit_bytes=limit_bytes, retry_after_s=_RETRY_AFTER_S)

    def too_many_requests(self, running: int, size_bytes: int) -> RpcError | None:
        """Why a request of ``size_bytes`` cannot be taken beside ``running`` others."""
        if running >= OPEN_LIMIT:
            return Overloaded(queue=running, limit=OPEN_LIMIT, retry_after_s=_RETRY_AFTER_S)
        if size_bytes > LARGE_BYTES:
            what, have_bytes, limit_bytes = "large requests", self._large_bytes, LARGE_BYTES
            fits = have_bytes == 0
        else:
            what, have_bytes, limit_bytes = "requests", self._requests_bytes, self._requests_limit_bytes
            fits = have_bytes + size_bytes <= limit_bytes
        if fits:
            return None
        return Overloaded.in_bytes(what, have_bytes=have_bytes, limit_bytes=limit_bytes, retry_after_s=_RETRY_AFTER_S)

    def begun(self, size_bytes: int) -> None:
        """A request of ``size_bytes`` is being worked on, until ``ended``."""
        self._count(size_bytes, 1)

    def ended(self, size_bytes: int) -> None:
        self._count(size_bytes, -1)

    def _count(self, size_bytes: int, times: int) -> None:
        if size_bytes > LARGE_BYTES:
            self._large_bytes += times * size_bytes
        else:
            self._requests_bytes += times * size_bytes
