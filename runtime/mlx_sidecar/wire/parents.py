"""Whether the host is still there, for the case that its pipes are not closed by its death: others may hold them."""

from __future__ import annotations

import os
from collections.abc import Callable

import anyio

_PERIOD_S = 0.25  # the promise is a second


class Parents:
    """Our parent process, and the one that the host named in ``initialize``."""

    def __init__(self) -> None:
        self._parent = os.getppid()
        self._named: Callable[[], bool] = _yes

    def also(self, pid: int) -> None:
        """Watch process ``pid`` too."""
        import psutil  # 36 ms that most connections never need

        try:
            process = psutil.Process(pid)
        except psutil.NoSuchProcess:
            self._named = _no
            return

        def lives() -> bool:
            # is_running knows a reused pid for another process; a zombie has died, whoever has yet to notice.
            try:
                return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
            except psutil.NoSuchProcess:
                return False

        self._named = lives

    async def wait_for_death(self) -> None:
        """Returns when one of them has died."""
        while os.getppid() == self._parent and self._named():
            await anyio.sleep(_PERIOD_S)


def _yes() -> bool:
    return True


def _no() -> bool:
    return False
