"""One sidecar for all tests that only ask the real model, because loading it takes longer than most of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import real_model
from tests.support.programs import missing
from tests.support.sidecar import Sidecar, sidecar

from . import reference


@pytest.fixture(scope="session")
def model() -> Path:
    """The directory of the real model, in bfloat16."""
    if not real_model.is_made():
        missing("the real model (tools/real_model.py fetches it)")
    return real_model.MODEL


@pytest.fixture(scope="session")
def mlxlm(model: Path) -> reference.Reference:
    """The answers of mlx-lm itself."""
    return reference.read()


@pytest.fixture(scope="session")
def real_sidecar(model: Path) -> Iterator[Sidecar]:
    """A sidecar that has loaded the real model with no option."""
    with sidecar() as process:
        process.initialize()
        process.call("load", {"model": str(model)})
        yield process
