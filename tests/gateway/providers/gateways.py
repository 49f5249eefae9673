"""A gateway in this process over a table of providers."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from mlx_sidecar_gateway.providers.directory import Providers
from mlx_sidecar_gateway.providers.table_file import read_table
from tests.gateway.in_memory import InMemory, MemorySidecar, gateway_over

COMMAND = (sys.executable, "-P", "-m", "mlx_sidecar")
KEY = "sk-secret"


@asynccontextmanager
async def routed(sidecar: MemorySidecar, table: str, **settings: Any) -> AsyncIterator[InMemory]:
    """A gateway over ``sidecar`` and the providers of a table, whose keys are ``KEY``."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(os.environ, "UPSTREAM_KEY", KEY)
        memory = gateway_over(sidecar, providers=read_table(table), **settings)
        async with providers_of(memory).running(COMMAND):
            yield memory


def providers_of(memory: InMemory) -> Providers:
    """The providers of a gateway that has some."""
    assert memory.gateway.providers is not None
    return memory.gateway.providers
