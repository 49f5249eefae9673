"""Programs that tests need: not there is a reason to skip, and in CI a failure."""

from __future__ import annotations

import os
import shutil

import pytest


def program(name: str) -> str:
    """Its path. Skips the test that needs it where it is not installed; fails in CI."""
    found = shutil.which(name)
    if found is None:
        assert "CI" not in os.environ, f"CI needs {name}"
        pytest.skip(f"{name} is not installed")
    return found
