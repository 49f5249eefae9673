"""Client libraries that others wrote drive the sidecar: vscode-jsonrpc from npm, and Neovim's vim.lsp.rpc."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.frames import check

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
SIDECAR = [sys.executable, "-m", "mlx_sidecar", "serve", "--engine", "fake"]
PATIENCE_S = 120.0  # far beyond what anything takes: a test that gets here has found a hang


def program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        assert "CI" not in os.environ, f"CI needs {name}"
        pytest.skip(f"{name} is not installed")
    return found


def transcript(command: list[str], directory: Path, **environment: str) -> Any:
    """What the driver printed."""
    sources = os.pathsep.join([str(ROOT / "runtime"), str(ROOT / "protocol"), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        command,
        env={**os.environ, "PYTHONPATH": sources, **environment},
        cwd=directory,
        capture_output=True,
        encoding="utf-8",
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def vscode(tmp_path_factory: pytest.TempPathFactory) -> Any:
    node = program("node")
    if not (ROOT / "tests" / "node" / "node_modules" / "vscode-jsonrpc").is_dir():
        assert "CI" not in os.environ, "CI needs tests/node/node_modules"
        pytest.skip("tests/node/node_modules is missing: npm ci --prefix tests/node")
    return transcript([node, str(HERE / "vscode_jsonrpc.mjs"), *SIDECAR], tmp_path_factory.mktemp("vscode"))


@pytest.fixture(scope="module")
def neovim(tmp_path_factory: pytest.TempPathFactory) -> Any:
    editor = program("nvim")
    home = tmp_path_factory.mktemp("neovim")
    script = f"luafile {HERE / 'neovim.lua'}"
    places = {name: str(home / name) for name in ("XDG_CACHE_HOME", "XDG_STATE_HOME", "XDG_DATA_HOME")}
    command = [editor, "--headless", "--clean", "-n", "-i", "NONE", "-c", script]
    return transcript(command, home, SIDECAR_COMMAND=json.dumps(SIDECAR), **places)


@pytest.fixture(params=["vscode", "neovim"])
def seen(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue(request.param)


def text_of(deltas: list[dict[str, Any]]) -> str:
    """The text that deltas make, after a check that they are in order and without gaps."""
    text = ""
    for number, delta in enumerate(deltas):
        check("StreamDelta", delta)
        assert (delta["seq"], delta["offset"]) == (number, len(text))
        text += delta["text"]
    return text


def test_initialize_agrees_on_version_one(seen: Any) -> None:
    check("InitializeResult", seen["initialize"])
    assert seen["initialize"]["protocol_version"] == 1
    assert seen["ping"] in ({}, [])  # Lua knows no difference


def test_a_streamed_answer_arrives_whole_and_ends_with_its_result(seen: Any) -> None:
    result = seen["finished"]
    check("GenerateResult", result)
    assert result["finish_reason"] == "stop"
    assert result["usage"]["completion_tokens"] == 40
    assert text_of(seen["deltas"]["finished"]) == result["text"]
    assert result["last_seq"] == len(seen["deltas"]["finished"]) - 1


@pytest.mark.parametrize("way", ["cancelled_by_id", "cancelled_by_stream"])
def test_a_cancelled_request_is_answered_with_what_there_was(seen: Any, way: str) -> None:
    result = seen[way]
    check("GenerateResult", result)
    assert result["finish_reason"] == "cancelled"
    assert 0 < result["usage"]["completion_tokens"] < 100_000
    assert text_of(seen["deltas"][result["stream"]]) == result["text"]


def test_an_error_reaches_the_library_with_its_kind(seen: Any) -> None:
    assert seen["unknown_method"] == {"code": -32601, "data": {"kind": "method_not_found", "retryable": False}}


def test_shutdown_and_exit_end_the_process_with_status_zero(seen: Any) -> None:
    assert seen["shutdown"] in ({}, [])
    assert seen["exit_status"] == 0


def test_the_library_had_nothing_to_complain_about(seen: Any) -> None:
    assert seen["errors"] in ([], {})
