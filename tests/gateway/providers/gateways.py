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
from tests.gateway.in_memory import InMemory, in_memory

COMMAND = (sys.executable, "-P", "-m", "mlx_sidecar")
KEY = "sk-secret"

# For upstreams that hang, and for no others: on a busy machine any of them may take as long.
IMPATIENT = "first_timeout_s: 0.3, idle_timeout_s: 0.3"


@asynccontextmanager
async def routed(table: str, **settings: Any) -> AsyncIterator[InMemory]:
    """A gateway over a sidecar in this process, and the providers of a table, whose keys are ``KEY``."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(os.environ, "UPSTREAM_KEY", KEY)
        async with (
            in_memory(providers=read_table(table), **settings) as memory,
            providers_of(memory).running(COMMAND),
        ):
            yield memory


def providers_of(memory: InMemory) -> Providers:
    """The providers of a gateway that has some."""
    assert memory.gateway.providers is not None
    return memory.gateway.providers
