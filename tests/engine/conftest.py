"""One real engine with one model of each kind, under exact numerics, for all tests that only talk to it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.engine_process import EngineClient, ready_engine
from tests.support.random_models import CONFIGS, write_model


@pytest.fixture(scope="session")
def random_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a model of each kind in a directory of that name."""
    root = tmp_path_factory.mktemp("random-models")
    for kind in CONFIGS:
        write_model(root / kind, kind)
    return root


@pytest.fixture(scope="session")
def exact_engine(random_models: Path) -> Iterator[EngineClient]:
    with ready_engine(engine="mlx", numerics="exact") as client:
        for kind in CONFIGS:
            client.load(kind, str(random_models / kind))
        yield client
