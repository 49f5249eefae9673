"""One sidecar for each way to compute, and all its requests in a few rounds, before the first test looks at one."""

from __future__ import annotations

import pytest

from tests.support.sidecar import sidecar

from .cases import Case, larger_cases, pair_cases, runs_on
from .features import NUMERICS
from .models import load_adapters, write_models
from .rounds import Outcome, Rounds

Outcomes = dict[tuple[str, Case], Outcome]


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The paths of the models by name."""
    return write_models(tmp_path_factory.mktemp("composition"))


@pytest.fixture(scope="session")
def outcomes(models: dict[str, str]) -> Outcomes:
    """The outcome of each case on each engine."""
    found: Outcomes = {}
    for numerics in NUMERICS:
        with sidecar("--numerics", numerics) as process:
            process.initialize()
            for path in models.values():
                process.call("load", {"model": path})
            load_adapters(process, models)
            cases = [case for case in pair_cases() if runs_on(case, numerics)] + larger_cases(numerics)
            found |= {
                (numerics, case): outcome for case, outcome in Rounds(process, models, numerics).run(cases).items()
            }
    return found
