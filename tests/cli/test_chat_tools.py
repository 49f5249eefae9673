"""``chat`` with tools and reasoning, as a person and as a pipe has it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from mlx_sidecar.cli.chat.tool_file import result_of, tools_of
from mlx_sidecar.cli.failures import USAGE, Refused
from tests.support.byte_host import PATIENCE_S
from tests.support.terminal import CTRL_C, ENTER, Terminal, terminal

FILE = '''
"""Tools."""
from pathlib import Path
from time import sleep

def add(a: int, b: int = 0) -> int:
    """Add two numbers.

    They may be negative.
    """
    Path(__file__).with_name("ran").touch()
    return a + b

def stuck() -> None:
    Path(__file__).with_name("ran").touch()
    sleep(3600)

def _private(): ...
'''
CALL = '<think>\nI must add.\n</think>\n\n<tool_call>\n{"name": "add", "arguments": {"a": 2, "b": 3}}\n</tool_call>'
STUCK = '<tool_call>\n{"name": "stuck", "arguments": {}}\n</tool_call>'


def model(text: str, then: str = "It is **5**.", **more: Any) -> str:
    options = {"text": text, "then": then, **more}
    return "fake?" + "&".join(f"{name}={quote(str(value))}" for name, value in options.items())


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "tools.py"
    path.write_text(FILE)
    return path


@contextmanager
def chat(file: Path, name: str, *words: str) -> Iterator[Terminal]:
    command = ("chat", name, "--engine", "fake", "--tools", str(file), *words)
    with terminal(*command, XDG_STATE_HOME=str(file.parent)) as running:
        running.wait_for("tokens · /help")
        yield running


def saved(running: Terminal, path: Path) -> list[dict[str, Any]]:
    running.type(f"/save {path}{ENTER}")
    running.wait_for("saved to")
    messages: list[dict[str, Any]] = json.loads(path.read_text())["messages"]
    return messages


def test_a_call_is_shown_and_runs_after_a_yes_and_its_result_goes_back(file: Path) -> None:
    with chat(file, model(CALL)) as running:
        running.type(f"How much?{ENTER}")
        running.wait_for("run it? [y/N]")
        assert 'calls add({"a": 2, "b": 3})' in running.text
        assert not file.with_name("ran").exists()
        running.type(f"y{ENTER}")
        running.wait_for("It is 5.")
        running.wait_for("new tokens", 2)
        assert "add: 5" in running.text
        messages = saved(running, file.with_name("saved.json"))
        running.type(f"/clear{ENTER}/load {file.with_name('saved.json')}{ENTER}/retry{ENTER}")
        running.wait_for("run it? [y/N]", 2)
    assert [message["role"] for message in messages] == ["user", "assistant", "tool", "assistant"]
    assert messages[1]["reasoning_content"].strip() == "I must add."
    assert messages[2]["content"] == "5"


def test_nothing_runs_without_a_yes_and_the_model_is_told(file: Path) -> None:
    with chat(file, model(CALL, "Then not.")) as running:
        running.type(f"How much?{ENTER}")
        running.wait_for("run it? [y/N]")
        running.type(ENTER)
        running.wait_for("Then not.")
        messages = saved(running, file.with_name("saved.json"))
    assert messages[2]["content"] == "error: the user does not want this call"
    assert not file.with_name("ran").exists()


def test_ctrl_c_ends_a_call_and_the_question_with_it(file: Path) -> None:
    with chat(file, model(STUCK), "--yes-tools") as running:
        running.type(f"How much?{ENTER}")
        running.wait_for("calls stuck")
        running.wait(file.with_name("ran").exists, "it does not run")
        running.type(CTRL_C)
        running.wait_for("interrupted")
        assert saved(running, file.with_name("saved.json")) == []


def test_reasoning_is_folded_into_a_line(file: Path) -> None:
    with chat(file, model(f"<think>\n{'so and so ' * 30}\n</think>\n\nDone.", delay_ms=1)) as running:
        running.type(f"How much?{ENTER}")
        running.wait_for("reasoning: … ")
        running.wait_for("Done.")
        running.wait_for("new tokens")
        assert "of them reasoning" in running.text
        assert "so and so" not in running.text
        assert "reasoned, about 3" in running.text


def test_the_tools_are_listed(file: Path) -> None:
    with chat(file, "fake") as running:
        running.type(f"/tools{ENTER}")
        running.wait_for("add(a: int, b: int = 0) -> int  Add two numbers.")


def pipe(file: Path, name: str, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mlx_sidecar", "chat", name, "--engine", "fake", "--tools", str(file), *words]
    return subprocess.run(command, input="How much?\n", capture_output=True, text=True, timeout=PATIENCE_S, check=False)


def test_in_a_pipe_the_text_alone_is_written_and_calls_need_the_option(file: Path) -> None:
    done = pipe(file, model(CALL), "--yes-tools")
    assert done.stdout.strip() == "It is **5**."
    assert "add: 5" in done.stderr
    assert "think" not in done.stdout + done.stderr
    done = pipe(file, model(CALL, "Then not."))
    assert done.stdout.strip() == "Then not."
    assert "not run" in done.stderr


def test_a_model_that_only_calls_is_stopped_after_some_rounds(file: Path) -> None:
    done = pipe(file, model(CALL, CALL), "--yes-tools")
    assert "16 answers in a row were calls" in done.stderr
    assert done.stderr.count("add: 5") == 16
    assert done.returncode == 0


def test_what_is_no_call_is_text_and_said(file: Path) -> None:
    done = pipe(file, model("<tool_call>add them!</tool_call>"), "--yes-tools")
    assert done.stdout.strip() == "<tool_call>add them!</tool_call>"
    assert "what looks like a call is none" in done.stderr


@pytest.mark.parametrize(
    ("source", "fault"),
    [
        ("1 / 0", "ZeroDivisionError"),
        ("def f(a): ...", "f: parameter a has no type"),
        ("async def f(a: int): ...", "f is async"),
        ("from os.path import join", "no public function"),
        ("from __future__ import annotations\ndef f(a: Nowhere): ...", "f: a type cannot be found"),
    ],
)
def test_a_file_that_has_no_tools_is_refused(tmp_path: Path, source: str, fault: str) -> None:
    path = tmp_path / "tools.py"
    path.write_text(source)
    with pytest.raises(Refused, match=fault) as refused:
        tools_of(path)
    assert refused.value.status == USAGE


def test_a_file_may_have_types_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "tools.py"
    path.write_text(
        "from __future__ import annotations\nfrom dataclasses import dataclass\n"
        "@dataclass\nclass Place:\n    x: int\n"
        "def far(place: Place) -> int: return place.x\n"
    )
    assert result_of(tools_of(path), {"name": "far", "arguments": '{"place": {"x": 7}}'}) == "7"


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="No such file"):
        tools_of(tmp_path / "tools.py")


def test_a_call_that_fails_is_told_to_the_model(file: Path) -> None:
    tools = tools_of(file)
    assert list(tools) == ["add", "stuck"]
    assert result_of(tools, {"name": "add", "arguments": '{"a": 1}'}) == "1"
    assert result_of(tools, {"name": "add", "arguments": '{"a": "x"}'}).startswith("error: ValueError: a: Input should")
    assert result_of(tools, {"name": "sub", "arguments": "{}"}).startswith("error: LookupError: there is no tool 'sub'")


def test_generate_writes_text_alone_and_json_has_everything() -> None:
    command = [sys.executable, "-m", "mlx_sidecar", "generate", "--engine", "fake", "--chat"]
    name = model("<think>\nHm.\n</think>\n\nYes.")
    run = {"capture_output": True, "text": True, "timeout": PATIENCE_S, "check": True}
    assert subprocess.run([*command, name, "x"], **run).stdout == "Yes.\n"  # type: ignore[call-overload]
    whole = json.loads(subprocess.run([*command, "--json", name, "x"], **run).stdout)  # type: ignore[call-overload]
    assert (whole["text"], whole["reasoning"].strip()) == ("Yes.", "Hm.")
