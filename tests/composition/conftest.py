"""One sidecar for each way to compute, and all its requests in a few rounds, before the first test looks at one."""

from __future__ import annotations

import pytest

from tests.support.forwards import NATIVE
from tests.support.sidecar import sidecar

from .cases import ENGINES, Case, Engine, cases_on
from .features import OPTIONS
from .models import load_adapters, write_models
from .rounds import Outcome, Rounds

Outcomes = dict[tuple[Engine, Case], Outcome]


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The paths of the models by name."""
    return write_models(tmp_path_factory.mktemp("composition"))


@pytest.fixture(scope="session")
def outcomes(models: dict[str, str]) -> Outcomes:
    """The outcome of each case on each engine."""
    found: Outcomes = {}
    for engine in ENGINES:
        if "float16" in engine and not NATIVE:
            continue
        with sidecar(*(word for name in engine for word in OPTIONS[name])) as process:
            process.initialize()
            for path in models.values():
                process.call("load", {"model": path})
            load_adapters(process, models)
            rounds = Rounds(process, models, exact="exact" in engine)
            found |= {(engine, case): outcome for case, outcome in rounds.run(cases_on(engine)).items()}
    return found
