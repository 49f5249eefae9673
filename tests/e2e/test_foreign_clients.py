"""Client libraries of others drive the sidecar: those of editors, and those that programs take from a registry.

Each driver in ``foreign/`` holds the same conversation and prints what its library gave it, as one JSON object.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.support.frames import check
from tests.support.programs import missing, program

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
DRIVERS = HERE / "foreign"
SIDECAR = [sys.executable, "-m", "mlx_sidecar", "serve", "--engine", "fake"]
PATIENCE_S = 120.0  # far beyond what anything takes: a test that gets here has found a hang
# Beyond 64 KiB as tokens; characters of one to four bytes, a combining one, and what JSON and JavaScript escape.
TEXT = '"Grüße" \\ 日本語\t🎉\u2028 e\u0301\n' * 600


def vim() -> list[str]:
    editor = program("vim")
    features = subprocess.run([editor, "--version"], capture_output=True, encoding="utf-8", check=True).stdout
    if "+channel" not in features:
        missing("a Vim with channels")
    return [editor, "-es", "-u", "NONE", "-i", "NONE", "-S", str(DRIVERS / "vim.vim")]


def neovim() -> list[str]:
    script = f"luafile {DRIVERS / 'neovim.lua'}"
    return [program("nvim"), "--headless", "--clean", "-n", "-i", "NONE", "-c", script]


def emacs() -> list[str]:
    return [program("emacs"), "-Q", "--batch", "-l", str(DRIVERS / "emacs.el")]


def node(driver: str, package: str) -> list[str]:
    runtime = program("node")
    if not (ROOT / "tests" / "node" / "node_modules" / package).is_dir():
        missing(f"{package} (npm ci --prefix tests/node)")
    return [runtime, str(DRIVERS / driver)]


def python(driver: str, module: str) -> list[str]:
    if find_spec(module) is None:
        missing(module)
    return [sys.executable, str(DRIVERS / driver)]


CLIENTS: dict[str, Callable[[], list[str]]] = {
    "vscode-jsonrpc": lambda: node("vscode_jsonrpc.mjs", "vscode-jsonrpc"),
    "json-rpc-2.0": lambda: node("json_rpc_2_0.mjs", "json-rpc-2.0"),
    "pygls": lambda: python("pygls_client.py", "pygls"),
    "python-lsp-jsonrpc": lambda: python("pylsp_client.py", "pylsp_jsonrpc"),
    "neovim": neovim,
    "vim": vim,
    "emacs": emacs,
}


@pytest.fixture(scope="module", params=CLIENTS)
def seen(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The output of the driver of one client."""
    command = CLIENTS[request.param]()
    home = tmp_path_factory.mktemp("home")  # no user's own settings take part
    places = {name: str(home) for name in ("HOME", "XDG_CACHE_HOME", "XDG_STATE_HOME", "XDG_DATA_HOME")}
    sources = os.pathsep.join([str(ROOT / "runtime"), str(ROOT / "protocol"), os.environ.get("PYTHONPATH", "")])
    settings = {"SIDECAR_COMMAND": json.dumps(SIDECAR), "SIDECAR_TEXT": json.dumps(TEXT), "PYTHONPATH": sources}
    done = subprocess.run(
        command,
        env={**os.environ, **places, **settings},
        cwd=home,
        capture_output=True,
        encoding="utf-8",
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def text_of(deltas: list[dict[str, Any]]) -> str:
    """The text that deltas make, after a check that they are in order and without gaps."""
    text = ""
    for number, delta in enumerate(deltas):
        check("StreamDelta", delta)
        assert (delta["seq"], delta["offset"]) == (number, len(text))
        text += delta["text"]
    return text


def is_empty(result: Any) -> bool:
    """Whether it was ``{}``: Lua knows no difference to a list, and Emacs none to nil."""
    return result in ({}, [], None)


def test_initialize_agrees_on_version_one(seen: Any) -> None:
    check("InitializeResult", seen["initialize"])
    assert seen["initialize"]["protocol_version"] == 1
    assert is_empty(seen["ping"])


def test_a_streamed_answer_arrives_whole_and_ends_with_its_result(seen: Any) -> None:
    result = seen["finished"]
    check("GenerateResult", result)
    assert result["finish_reason"] == "stop"
    assert result["usage"]["completion_tokens"] == 40
    assert text_of(seen["deltas"]["finished"]) == result["text"]
    assert result["last_seq"] == len(seen["deltas"]["finished"]) - 1


def test_long_messages_of_any_characters_go_both_ways_unharmed(seen: Any) -> None:
    assert seen["returned"] == {"text": TEXT}


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
    assert is_empty(seen["shutdown"])
    assert seen["exit_status"] == 0


def test_the_library_had_nothing_to_complain_about(seen: Any) -> None:
    assert is_empty(seen["errors"])
