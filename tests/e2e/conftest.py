"""Sidecars that the tests of a file share, where none of them disturbs another."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.sidecar import Sidecar, sidecar


@pytest.fixture(scope="module")
def shared() -> Iterator[Sidecar]:
    """On the real engine, with all defaults."""
    with sidecar() as process:
        yield process


@pytest.fixture(scope="module")
def shared_fake() -> Iterator[Sidecar]:
    """On the fake engine, which has been asked for nothing else."""
    with sidecar("--engine", "fake") as process:
        yield process
