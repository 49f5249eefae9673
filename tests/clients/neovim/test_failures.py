"""The messages when something is missing or breaks, and the processes that are left when the editor goes."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import psutil
import pytest

from tests.clients.neovim.editor import PATIENCE_S, SIDECAR, Editor, says

# Nothing of this depends on how an editor draws: the older one is enough.
pytestmark = pytest.mark.parametrize("editor", ["system"], indirect=True)


def test_a_missing_executable_is_told_once_with_what_to_install(editor: Editor) -> None:
    editor.lua("vim.env.MLX_SIDECAR = 'no-such-sidecar'")
    editor.lua("require('mlx_sidecar').setup({ complete = { debounce_ms = 0 } })")
    for typed in ("a", "ab", "abc"):
        editor.keys(("i" if typed == "a" else "") + typed[-1])
        editor.wait_for_lua("require('mlx_sidecar').status().error")
        editor.wait_for_buffer(typed)
    assert editor.messages() == ["sidecar: not found; docs/install.md says how to install"]
    editor.keys("<Esc>:SidecarStatus<CR>")
    editor.wait_for_text("MLX_SIDECAR names")


@pytest.mark.parametrize("command", ["no-such-sidecar", ["no-such-sidecar", "-m", "x"]])
def test_a_missing_command_of_the_options_is_told_too(editor: Editor, command: str | list[str]) -> None:
    editor.setup(command=command)
    editor.keys("ia")
    editor.wait_for_lua("require('mlx_sidecar').status().error")
    assert editor.status()["state"] == "failed"


def test_a_sidecar_that_does_not_start_is_told_once_with_its_last_words(editor: Editor) -> None:
    editor.setup(serve=["--no-such-option"])
    editor.keys("ia")
    error = editor.wait_for_lua("require('mlx_sidecar').status().error")
    assert "status 2" in error
    assert "--no-such-option" in error
    editor.keys("b")
    editor.wait_for_buffer("ab")
    assert len(editor.messages()) == 1


def test_an_error_of_the_model_is_told_once_and_not_at_each_key(editor: Editor) -> None:
    editor.setup(model="fake?fail_load=model_load_failed")
    for typed in ("a", "ab", "abc"):
        editor.keys(("i" if typed == "a" else "") + typed[-1])
        editor.wait_for_buffer(typed)
    editor.wait_for_lua("require('mlx_sidecar').status().error")
    assert len(editor.messages()) == 1


def test_a_completion_goes_on_when_the_engine_dies(editor: Editor) -> None:
    editor.setup(model=says("hello world", crash_after=5))
    editor.keys("i>")
    editor.wait_for_ghost("hello world")
    assert editor.status()["engine"]["restarts"] == 1


def test_after_the_sidecar_was_killed_the_next_key_starts_another(editor: Editor) -> None:
    editor.setup(model=says("world"))
    editor.keys("ihello ")
    editor.wait_for_ghost("world")
    first = editor.sidecar_pid()
    os.kill(first, signal.SIGKILL)
    editor.wait_for_lua("require('mlx_sidecar').status().state == 'lost'")
    editor.keys("x")
    editor.wait_for_buffer("hello x")
    editor.wait_for_ghost("world")
    assert editor.sidecar_pid() != first


def test_a_request_of_which_nothing_has_come_is_asked_again_when_the_sidecar_is_killed(editor: Editor) -> None:
    editor.setup(model=says("world", prefill_ms=1500))
    editor.keys("ihello ")
    editor.wait_for_lua("require('mlx_sidecar').status().running == 1")
    os.kill(editor.sidecar_pid(), signal.SIGKILL)
    editor.wait_for_ghost("world")
    assert editor.messages() == []


def test_a_sidecar_that_dies_again_and_again_is_given_up(editor: Editor) -> None:
    editor.setup(model=says("world"))
    kill = """
      local shared = require('mlx_sidecar.shared')
      shared.sidecar():call('ping', nil, function(error)
        if shared.sidecar().connection then shared.sidecar().connection:kill() end
        vim.rpcnotify(1, "answered", error and error.kind)
      end)
    """
    for _ in range(5):
        editor.lua(kill)
        editor.wait_for_lua("require('mlx_sidecar').status().state == 'lost'")
    editor.lua(kill)
    editor.wait_for_lua("require('mlx_sidecar').status().state == 'failed'")
    assert "5 times" in editor.lua("return require('mlx_sidecar.shared').sidecar().failure.message")


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({"complet": {}}, "'complet'"),
        ({"complete": {"debounce": 5}}, "'complete.debounce'"),
        ({"complete": {"max_tokens": 0}}, "'complete.max_tokens'"),
        ({"complete": {"stop": "x"}}, "'complete.stop'"),
        ({"keys": {"accept": True}}, "'keys.accept'"),
        ({"command": []}, "'command'"),
        ({"chat": {"temperature": -1}}, "'chat.temperature'"),
        ({"window": 1.5}, "'window'"),
    ],
)
def test_a_wrong_option_is_refused_by_its_name(editor: Editor, options: dict[str, object], names: str) -> None:
    fine, why = editor.lua("return { pcall(require('mlx_sidecar').setup, ...) }", options)
    assert not fine
    assert names in why


BREAKAGES = {
    "a command": "require('mlx_sidecar.commands').toggle = function() error('out of ideas') end "
    "vim.cmd('SidecarToggle')",
    "an answer": "require('mlx_sidecar.shared').sidecar():call('ping', nil, function() error('out of ideas') end)",
    "a function": "require('mlx_sidecar.completion').complete = function() error('out of ideas') end "
    "require('mlx_sidecar').complete()",
}


@pytest.mark.parametrize("breakage", BREAKAGES)
def test_a_failure_of_the_plugin_is_one_line_with_advice_and_no_traceback(editor: Editor, breakage: str) -> None:
    editor.setup()
    editor.lua("vim.o.columns = 140")
    editor.lua(BREAKAGES[breakage])
    editor.wait(editor.messages)
    [line] = editor.messages()
    assert line.startswith("sidecar: ")
    assert line.endswith("failed: out of ideas (:SidecarStatus says where; please report it)")
    editor.keys(":SidecarStatus<CR>")
    editor.wait_for_text("stack traceback")


def family_of(pid: int) -> list[psutil.Process]:
    """The process and all that came of it."""
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]


@pytest.mark.parametrize("way", ["quit", "kill"])
def test_nothing_is_left_when_the_editor_goes(editor: Editor, way: str) -> None:
    editor.setup(model=says("x" * 3000, delay_ms=20), complete={"max_tokens": 3000})
    editor.keys("i>")
    editor.wait(editor.ghost)
    left = family_of(editor.sidecar_pid())
    assert len(left) > 1
    if way == "quit":
        editor.keys("<Esc>:qa!<CR>")
    else:
        editor.process.kill()
    editor.process.wait(PATIENCE_S)
    _, alive = psutil.wait_procs(left, timeout=PATIENCE_S)
    assert alive == []


def test_new_options_end_the_old_sidecar(editor: Editor) -> None:
    editor.setup(model=says("world"))
    editor.keys("ihello ")
    editor.wait_for_ghost("world")
    old = psutil.Process(editor.sidecar_pid())
    editor.setup(model=says("moon"))
    old.wait(PATIENCE_S)
    editor.keys("x")
    editor.wait_for_ghost("moon")


def test_a_command_may_be_a_path_or_a_list(editor: Editor, tmp_path: Path) -> None:
    script = tmp_path / "my sidecar"
    script.write_text(f'#!/bin/sh\nexec {" ".join(SIDECAR)} "$@"\n')
    script.chmod(0o755)
    editor.setup(command=str(script), model=says("world"))
    editor.keys("ihello ")
    editor.wait_for_ghost("world")
