"""Tests need more than Python packages: a missing program is a reason to skip, and in CI a failure."""

from __future__ import annotations

import os
import shutil

import pytest


def missing(what: str) -> None:
    """End the test: in CI everything is there."""
    assert "CI" not in os.environ, f"CI needs {what}"
    pytest.skip(f"{what} is not installed")


def program(name: str) -> str:
    """The path of ``name``."""
    found = shutil.which(name)
    if found is None:
        missing(name)
    return str(found)
