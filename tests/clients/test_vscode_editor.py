"""The extension for VS Code in a real editor: code-server, with its page in Chromium."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.clients import code_server
from tests.clients.node_client import PATIENCE_S, ROOT, SIDECAR, environment, need_built, node
from tests.clients.test_vscode import package_into
from tests.support.programs import program

pytestmark = pytest.mark.skipif(
    "MLX_SIDECAR_TEST_EDITOR" not in os.environ, reason="needs npm's registry and minutes: MLX_SIDECAR_TEST_EDITOR=1"
)
DRIVE = Path(__file__).parent / "vscode_editor" / "drive.mjs"
ENDLESS = "fake?tokens=100000&delay_ms=5&context=200000"
PROGRAM = "def total(a, b):\n"


def says(text: str, delay_ms: int = 0) -> str:
    return f"fake?text={quote(text, safe='')}&delay_ms={delay_ms}"


def settings(command: Path, chat: str) -> str:
    return json.dumps(
        {
            "workbench.startupEditor": "none",
            "mlxSidecar.executable": str(command),
            "mlxSidecar.arguments": ["--engine", "fake"],
            "mlxSidecar.completion.model": says("total_of_both"),
            "mlxSidecar.completion.debounceMs": 0,
            "mlxSidecar.chat.model": chat,
            "mlxSidecar.chat.maxTokens": 100_000,
        }
    )


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ``mlx-sidecar`` that runs the sources of this checkout, and leaves beside it what it was asked."""
    folder = tmp_path_factory.mktemp("command")
    script = folder / "mlx-sidecar"
    words = " ".join(map(shlex.quote, SIDECAR))
    script.write_text(f'#!/bin/sh\ntee -a {shlex.quote(str(folder / "asked"))} | {words} "$@"\n')
    script.chmod(0o755)
    return script


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory, command: Path) -> dict[str, Any]:
    """The sights of an editor in which a line was completed, a question asked, and an answer stopped."""
    need_built()
    code_server.fetch()
    home = tmp_path_factory.mktemp("editor")
    vsix = package_into(home)
    work = home / "work"
    work.mkdir()
    (work / "total.py").write_text(PROGRAM)
    chat = settings(command, says("<think>Let me see.</think>Because **both** are\nnumbers.", delay_ms=20))
    with code_server.editor(home, vsix, chat) as url:
        remote = url.removeprefix("http://")
        opened = json.dumps([["openFile", f"vscode-remote://{remote}{work}/total.py"]])
        page = f"{url}/?folder={quote(str(work))}&payload={quote(opened)}"
        done = subprocess.run(
            [node(), DRIVE, program("chromium"), page, ENDLESS],
            cwd=ROOT / "tests" / "node",
            env=environment(PATIENCE_MS=str(int(PATIENCE_S * 1000))),
            capture_output=True,
            encoding="utf-8",
            timeout=PATIENCE_S * 4,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def test_ghost_text_appears_and_tab_takes_it(seen: dict[str, Any]) -> None:
    assert seen["ghost"] == "total_of_both"


def test_an_answer_streams_into_the_chat_with_its_reasoning_folded(seen: dict[str, Any]) -> None:
    assert (seen["answer"], seen["bold"]) == ("Because both are\nnumbers.", "both")
    assert (seen["reasoning"], seen["isFolded"]) == ("Let me see.", True)
    lengths = [len(text) for text in seen["growing"]]
    assert len(set(lengths)) > 3, "it grew"


def test_settings_are_live_and_stop_cancels_in_the_engine(seen: dict[str, Any], command: Path) -> None:
    assert seen["stopped"] == "Stopped."
    asked = [json.loads(line) for line in command.with_name("asked").read_text().splitlines()]
    generated = [frame for frame in asked if frame["method"] == "generate" and frame["params"]["model"] == ENDLESS]
    assert generated[-1]["id"] in [frame["params"]["id"] for frame in asked if frame["method"] == "$/cancelRequest"]
