"""Names the exceptions that may end more than the work that raised them, and contains all others.

Libraries raise more than ``Exception``: a panic of a Rust library is a ``BaseException``. Where one of many requests is
served, an exception of any type but those named here is a fault of that request alone.
"""

from __future__ import annotations

import logging
from asyncio import CancelledError
from collections.abc import Iterator
from contextlib import contextmanager

LEAVING = (KeyboardInterrupt, SystemExit)
"""Raised to end the process. For callbacks, in which a ``CancelledError`` is a bug, since they cannot be cancelled."""

CONTROL_FLOW = (*LEAVING, GeneratorExit, CancelledError)
"""The same for coroutines, which exceptions also cancel and close."""


@contextmanager
def contained(log: logging.Logger, what: str, *args: object) -> Iterator[None]:
    """Log an exception of the block as our own bug, with the message ``what``, and suppress it.

    For callbacks, so nothing may be awaited in the block.
    """
    try:
        yield
    except LEAVING:
        raise
    except BaseException:
        log.exception(what, *args)
