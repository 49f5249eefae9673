"""Which exceptions end more than the piece of work that raised them, and a block that keeps all others in.

Libraries raise more than ``Exception``: a panic of a Rust library is a ``BaseException``. Where one request, stream or
message is served on behalf of many, everything but the kinds named here is a fault of that one alone.
"""

from __future__ import annotations

import logging
from asyncio import CancelledError
from collections.abc import Iterator
from contextlib import contextmanager

LEAVING = (KeyboardInterrupt, SystemExit)
"""The process is to end. For callbacks: there a ``CancelledError`` is an accident, since nothing can be cancelled."""

CONTROL_FLOW = (*LEAVING, GeneratorExit, CancelledError)
"""The same for coroutines, which are cancelled and closed by exceptions."""


@contextmanager
def contained(log: logging.Logger, what: str, *args: object) -> Iterator[None]:
    """What the block raises is logged as a bug of ours, with ``what`` in words, and goes no further.

    For blocks of callbacks, in which nothing is awaited.
    """
    try:
        yield
    except LEAVING:
        raise
    except BaseException:
        log.exception(what, *args)
