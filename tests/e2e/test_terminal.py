"""The command line as a person uses it."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mlx_sidecar import cli
from mlx_sidecar.cli import doctor
from tests.support.byte_host import PATIENCE_S
from tests.support.sidecar import ROOT

MLX_SIDECAR = (sys.executable, "-m", "mlx_sidecar")


@contextmanager
def chat(model: str) -> Iterator[subprocess.Popen[str]]:
    command = [*MLX_SIDECAR, "chat", model, "--engine", "fake"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT
    ) as process:
        yield process
        process.kill()


def say(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdin
    process.stdin.write(line + "\n")
    process.stdin.flush()


def read_until(process: subprocess.Popen[str], end: str) -> str:
    assert process.stdout
    text = ""
    while end not in text:
        character = process.stdout.read(1)
        assert character, text
        text += character
    return text


def test_ctrl_c_ends_the_answer_and_not_the_conversation() -> None:
    with chat("fake?text=abcdefghijklmnopqrstuvwxyz&delay_ms=40") as process:
        say(process, "first")
        read_until(process, "abc")
        process.send_signal(signal.SIGINT)
        read_until(process, "cancelled")
        say(process, "second")
        read_until(process, "xyz")
        read_until(process, "stop")
        assert process.stdin
        process.stdin.close()
        assert process.wait(PATIENCE_S) == 0


def test_a_question_that_is_refused_leaves_the_conversation_as_it_was() -> None:
    with chat("fake?context=60&text=ok") as process:
        say(process, "x" * 100)
        read_until(process, "the limit is")
        say(process, "y")
        read_until(process, "ok")


def test_a_model_that_cannot_be_loaded_is_said_so_and_the_status_is_3() -> None:
    command = [*MLX_SIDECAR, "generate", "fake?fail_load=model_load_failed", "x", "--engine", "fake"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=PATIENCE_S)
    assert done.returncode == 3
    assert "could not be loaded" in done.stderr
    assert done.stdout == ""


def test_a_path_is_told_letter_by_letter_whatever_rich_makes_of_such_text() -> None:
    path = "/nowhere/[a]/[/b]/[bold]/:smile:"
    command, wide = [*MLX_SIDECAR, "generate", path, "x"], {**os.environ, "COLUMNS": "1000"}
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=PATIENCE_S, env=wide)
    assert done.returncode == 3
    assert f"no model '{path}'" in done.stderr


def test_a_model_cannot_command_the_terminal_and_a_pipe_gets_what_it_said() -> None:
    command = [*MLX_SIDECAR, "generate", "fake?text=%1B[2Jab%07", "x", "--engine", "fake"]
    piped = subprocess.run(command, capture_output=True, cwd=ROOT, timeout=PATIENCE_S)
    assert piped.stdout == b"\x1b[2Jab\x07\n"
    leader, terminal = os.openpty()
    subprocess.run(command, stdout=terminal, stderr=subprocess.PIPE, cwd=ROOT, timeout=PATIENCE_S, check=True)
    assert os.read(leader, 100).decode() == "\ufffd[2Jab\ufffd\r\n"
    os.close(terminal)
    os.close(leader)


@pytest.mark.parametrize(
    "arguments",
    [
        ["serve", "--framing", "morse"],
        ["serve", "--batch-limit", "0"],
        ["serve", "--nesting-limit", "500"],
        ["generate", "pocket", "x", "--temperature", "nan"],
        ["no-such"],
        [],
    ],
)
def test_a_wrong_command_line_is_explained_and_the_status_is_2(arguments: list[str]) -> None:
    done = subprocess.run([*MLX_SIDECAR, *arguments], capture_output=True, text=True, cwd=ROOT, timeout=PATIENCE_S)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert "--help)" in line


def test_ctrl_c_where_nothing_can_be_cancelled_ends_the_command_as_shells_expect(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupted(args: argparse.Namespace) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(doctor, "run", interrupted)
    with pytest.raises(SystemExit) as left:
        cli.main(["doctor"])
    assert left.value.code == 130


def test_every_command_has_help() -> None:
    for command in ("serve", "chat", "generate", "doctor"):
        done = subprocess.run(
            [*MLX_SIDECAR, command, "--help"], capture_output=True, text=True, cwd=ROOT, timeout=PATIENCE_S, check=True
        )
        assert "--engine" in done.stdout


GENERATE = (sys.executable, "-m", "mlx_sidecar", "generate", "--engine", "fake", "fake")


@pytest.mark.parametrize(
    "locale",
    [
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        {"PYTHONIOENCODING": "latin-1"},
        {"PYTHONIOENCODING": "ascii:strict"},
    ],
    ids=lambda locale: ",".join(locale),
)
@pytest.mark.parametrize("prompt", ["h\u00e9llo \u2192 \u2713".encode(), b"not \xff UTF-8"])
def test_a_locale_without_the_characters_of_a_text_ends_no_command(locale: dict[str, str], prompt: bytes) -> None:
    done = subprocess.run([*GENERATE, prompt], capture_output=True, env={**os.environ, **locale}, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_text_that_cannot_be_written_is_told_in_a_sentence_and_makes_the_status_1() -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run([*GENERATE, "x"], stdout=full, stderr=subprocess.PIPE, timeout=60)
    assert done.returncode == 1
    assert b"No space left" in done.stderr
    assert b"Traceback" not in done.stderr
