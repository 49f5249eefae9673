"""Asynchronous tests run on asyncio alone, as uvicorn does."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"
