"""One sidecar for the gateways of a file."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.gateway.in_memory import MemorySidecar


@pytest.fixture(scope="module")
async def sidecar(anyio_backend: str) -> AsyncIterator[MemorySidecar]:
    async with MemorySidecar() as made:
        yield made
