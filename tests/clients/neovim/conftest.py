"""Fixtures: a Neovim that is as old as we support, and a new one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clients.neovim.editor import SIDECAR, Editor, program


@pytest.fixture
def command() -> list[str]:
    """The sidecar as it is, in processes. Files that need neither its start nor its end put a pair in its place."""
    return SIDECAR


@pytest.fixture(params=["system", "wheel"])
def editor(request: pytest.FixtureRequest, tmp_path: Path, command: list[str]) -> Iterator[Editor]:
    started = Editor(program(request.param), tmp_path)
    started.sidecar = command
    yield started
    started.close()
