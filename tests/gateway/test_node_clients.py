"""Packages of npm as they come from their registry, each with every case: one process of Node against one gateway."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.gateway.gateway_process import PATIENCE_S, gateway_process
from tests.support.programs import missing, program

FOLDER = Path(__file__).parents[1] / "node"
CLIENTS = [
    "openai",
    "openaiResponses",
    "anthropic",
    "ollama",
    "aiCompatible",
    "aiAnthropic",
    "aiOpenai",
    "aiResponses",
]

Told = dict[str, Any]


@pytest.fixture(scope="module")
def told() -> Told:
    """How each case of each client went, as ``run.mjs`` tells it."""
    if not (FOLDER / "node_modules" / "ai").is_dir():
        missing("packages of npm: npm ci --prefix tests/node")
    with gateway_process("--engine", "fake") as gateway:
        command = [program("node"), "clients/run.mjs", gateway.url]
        done = subprocess.run(command, cwd=FOLDER, capture_output=True, text=True, timeout=PATIENCE_S, check=True)
    result: Told = json.loads(done.stdout)
    return result


@pytest.fixture(params=CLIENTS)
def client(request: pytest.FixtureRequest, told: Told) -> Told:
    cases: Told = told["clients"][request.param]
    return cases


def test_an_answer_comes_whole_and_as_a_stream(client: Told) -> None:
    assert client["greets"] == client["streams"] == "Grüß Gott 👋"


def test_a_tool_is_run_and_its_result_answered(client: Told) -> None:
    calls = client["calls"]
    assert (calls["asked"], calls["answer"]) == (["Paris"], "It is sunny.")


def test_an_answer_is_an_object_under_a_schema(client: Told) -> None:
    assert client["writes"] == {"city": "Paris", "degrees": 21}


def test_a_stream_that_fails_gives_its_text_and_raises(client: Told) -> None:
    assert client["breaks"] == {"text": "half", "raised": True}


def test_a_stream_that_is_aborted_ends_at_once(client: Told) -> None:
    assert 0 < len(client["leaves"]) < 100


def test_a_client_that_aborts_takes_its_request_with_it(told: Told) -> None:
    assert told["disconnected"] == len(CLIENTS)


def test_a_refusal_is_raised_with_its_status_and_the_parameter(client: Told) -> None:
    assert client["refuses"] == {"status": 400, "names": True}
