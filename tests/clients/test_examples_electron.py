"""The example for Electron: its main process in Node, its page in Chromium. Electron itself is not in these tests."""

from __future__ import annotations

import json
import os
import shlex
import sys
from pathlib import Path

import pytest

from tests.clients.electron_app import lay_out, use
from tests.clients.node_client import ROOT

ENDLESS = "fake?tokens=100000&delay_ms=1"


@pytest.fixture(scope="module")
def resources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Those of an application whose sidecar runs the sources of this checkout, and leaves what it was asked."""
    folder = lay_out(tmp_path_factory.mktemp("electron"))
    command = folder / "bin" / "mlx-sidecar"
    command.parent.mkdir(parents=True)
    sources = shlex.quote(os.pathsep.join([str(ROOT / "runtime"), str(ROOT / "protocol")]))
    asked = shlex.quote(str(folder.parent / "asked"))
    command.write_text(
        f'#!/bin/sh\nexport PYTHONPATH={sources}\ncommand -p tee {asked} | {sys.executable} -m mlx_sidecar "$@"\n'
    )
    command.chmod(0o755)
    return folder.parent


def methods(resources: Path) -> list[str]:
    """The methods that the sidecar was asked for, in order."""
    return [json.loads(line)["method"] for line in (resources / "asked").read_text().splitlines()]


def test_an_answer_streams_into_the_window(resources: Path) -> None:
    [told] = use(resources, [("What is mlx-sidecar?", "wait")])
    assert "language-model engine" in told["answer"]
    assert told["status"] == "stop"
    assert methods(resources)[-2:] == ["shutdown", "exit"]


def test_an_answer_is_stopped_and_the_next_question_has_the_window_for_itself(resources: Path) -> None:
    first, second = use(resources, [("go", "stop"), ("on", "stop")], SIDECAR_ARGS="--engine fake", MODEL=ENDLESS)
    assert first["status"] == second["status"] == "stopped"
    assert methods(resources).count("$/cancelRequest") == 2


def test_a_window_that_is_closed_ends_its_answer_and_then_the_sidecar(resources: Path) -> None:
    [told] = use(resources, [("go", "close")], SIDECAR_ARGS="--engine fake", MODEL=ENDLESS)
    assert told["status"] == "answering"
    asked = methods(resources)
    assert "$/cancelRequest" in asked
    assert asked[-2:] == ["shutdown", "exit"]


def test_an_error_is_said_in_the_window(resources: Path) -> None:
    [told] = use(resources, [("go", "wait")], SIDECAR_ARGS="--engine fake", MODEL="fake?fail_load=model_not_found")
    assert told["status"].startswith("model_not_found: ")
