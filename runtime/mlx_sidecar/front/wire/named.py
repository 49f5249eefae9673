"""Telling sniffio what runs here."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module


@contextmanager
def asyncio_named() -> Iterator[None]:
    """Where sniffio is installed, and many packages bring it, anyio asks that which library this thread runs.

    It sees one inside tasks only, and we start tasks from callbacks as well.
    """
    try:
        named = import_module("sniffio").thread_local
    except ModuleNotFoundError:
        yield
        return
    before, named.name = named.name, "asyncio"
    try:
        yield
    finally:
        named.name = before
