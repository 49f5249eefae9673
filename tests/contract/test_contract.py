"""Each promise of docs/protocol.md holds for any steps of a host, in a real process over real pipes.

``CONTRACT_EXAMPLES`` and ``CONTRACT_STEPS`` make it longer.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from .machine import Machine
from .verdicts import Ajv, ajv, why_no_ajv

LONG = settings(
    max_examples=int(os.environ.get("CONTRACT_EXAMPLES", "15")),
    stateful_step_count=int(os.environ.get("CONTRACT_STEPS", "30")),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@pytest.fixture(scope="module")
def judge() -> Iterator[Ajv | None]:
    with ajv() as judge:
        yield judge


def test_whatever_a_host_does_every_promise_is_kept(judge: Ajv | None) -> None:
    class WithJudge(Machine):
        pass

    WithJudge.judge = judge
    run_state_machine_as_test(WithJudge, settings=LONG)


def test_ajv_is_one_of_the_judges(judge: Ajv | None) -> None:
    if judge is None:
        pytest.skip(f"{why_no_ajv()}: frames were judged by jsonschema and pydantic alone")
    assert judge.judge([("EmptyResult", {}), ("EmptyResult", {"more": 1})])[0] is None
