"""Fixtures: a Neovim that is as old as we support, and a new one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clients.neovim.editor import Editor, program


@pytest.fixture(params=["system", "wheel"])
def editor(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Editor]:
    started = Editor(program(request.param), tmp_path)
    yield started
    started.close()
