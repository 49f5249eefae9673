"""An event loop in virtual time: a minute of waiting takes no time, and leaves nothing to chance."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import pytest

from mlx_sidecar_gateway.core import answers

T = TypeVar("T")

_TURN_S = 1e-6  # of the loop: a clock that stood still would be waited for in vain


class _JumpingSelector(selectors.DefaultSelector):
    now_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        self.now_s += _TURN_S
        if not ready:
            assert timeout is not None, "everything waits, and nothing will happen"
            self.now_s += timeout
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """The loop; its clock begins at 0, and passes while everything waits."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now_s


def in_virtual_time(main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """The result of ``main``, for which all time is virtual, that of answers as well."""
    loop = VirtualLoop()
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(answers, "monotonic", loop.time)
            return loop.run_until_complete(main())
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
