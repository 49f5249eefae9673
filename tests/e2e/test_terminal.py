"""The command line as a person uses it."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mlx_sidecar import cli, pocket
from mlx_sidecar.cli import doctor
from mlx_sidecar.cli.sampling import NAMES
from mlx_sidecar_protocol.generate import GenerateParams
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


def test_a_pipe_gets_the_answers_alone_and_may_send_commands_and_several_lines() -> None:
    lines = 'one\n"""two\nthree"""\n/stats\n\n/bye\nnot asked\n'
    done = subprocess.run(
        [*MLX_SIDECAR, "chat", "fake?text=**ok**", "--engine", "fake"],
        input=lines,
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=PATIENCE_S,
    )
    assert done.returncode == 0
    assert done.stdout == "**ok**\n" * 2
    assert "2 questions" in done.stderr
    assert "\x1b" not in done.stderr


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


def test_every_command_has_help(capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("serve", "chat", "generate", "doctor", "models pull"):
        with pytest.raises(SystemExit) as left:
            cli.main([*command.split(), "--help"])
        assert left.value.code == 0
        assert "--engine" in capsys.readouterr().out


def test_serve_on_a_terminal_says_what_it_waits_for() -> None:
    leader, terminal = os.openpty()
    command = [*MLX_SIDECAR, "serve", "--engine", "fake"]
    with subprocess.Popen(command, stdin=terminal, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT) as process:
        os.close(terminal)
        assert process.stderr
        assert b"waits for a program to speak JSON-RPC" in process.stderr.readline()
        os.write(leader, b"\x04")  # Ctrl-D
        assert process.wait(PATIENCE_S) == 0
    os.close(leader)


def test_the_doctor_tries_a_model_and_names_what_is_wrong_with_it(tmp_path: Path) -> None:
    def doctor_of(model: str) -> subprocess.CompletedProcess[str]:
        command = [*MLX_SIDECAR, "doctor", model]
        return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=PATIENCE_S)

    assert (good := doctor_of("pocket")).returncode == 0, good.stdout
    assert "the same answer" in good.stdout
    assert "model  works" in good.stdout
    broken = tmp_path / "broken"
    shutil.copytree(pocket.PATH, broken, ignore=shutil.ignore_patterns("*.safetensors"))
    bad = doctor_of(str(broken))
    assert bad.returncode == 3
    assert "FAILED" in bad.stdout
    assert "safetensors" in bad.stdout


@pytest.mark.parametrize(
    ("model", "more", "status", "said"),
    [
        ("fake?fail_load=model_not_found", [], 3, "no model"),
        ("fake?context=8", [], 4, "the limit is"),
        ("fake", ["--top-p", "3"], 4, "error: top_p: Input should be less than or equal to 1"),
        ("fake", ["--temprature", "3"], 2, "did you mean '--temperature'?"),
        ("fake?poison_prompt=1", [], 5, "one engine after the other was lost"),
        ("fake?fail_after=2", [], 5, "error: "),
    ],
)
def test_a_failure_is_one_line_and_its_status_says_whose_it_is(
    model: str, more: list[str], status: int, said: str
) -> None:
    command = [*MLX_SIDECAR, "generate", model, "a [bold]prompt[/bold]", "--engine", "fake", "--quiet", *more]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=PATIENCE_S)
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert said in line
    assert done.returncode == status


def test_a_cancelled_answer_is_written_as_far_as_it_came_and_the_status_is_130() -> None:
    command = [*MLX_SIDECAR, "generate", "fake?tokens=1000&delay_ms=20", "x", "--engine", "fake", "--quiet"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT) as process:
        assert process.stdout
        first = process.stdout.read(1)
        process.send_signal(signal.SIGINT)
        rest, errors = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130
    assert 1 < len(first + rest) < 1000
    assert errors == b""


def test_the_whole_result_comes_as_json() -> None:
    command = [*MLX_SIDECAR, "generate", "fake?text=ok", "x", "--engine", "fake", "--json", "--logprobs", "1"]
    done = subprocess.run([*command, "--system", "s"], capture_output=True, text=True, cwd=ROOT, timeout=PATIENCE_S)
    result = json.loads(done.stdout)
    assert result["text"] == "ok"
    assert len(result["logprobs"]) == 2
    assert done.stderr == ""


def test_every_parameter_of_generate_has_an_option_or_a_reason_to_have_none() -> None:
    of_hosts = {"model", "prompt", "messages", "tools", "tokens", "stream", "window", "min_interval_ms", "echo_text"}
    of_tools = {"tool_choice", "parallel_tool_calls", "tool_format", "output"}
    of_long_chats = {"session", "at", "render", "context_overflow"}
    # The option ``--adapter`` is that of ``load``: a process of one request has no other one to share the model with.
    of_shared_models = {"adapter"}
    assert set(GenerateParams.model_fields) - of_hosts - of_tools - of_long_chats - of_shared_models == {
        *NAMES,
        "logprobs",
        "explain_cache",
        "response_format",
    }


def test_an_answer_gets_the_form_that_is_asked_for_and_says_where_it_is_cut_off(tmp_path: Path) -> None:
    schema, broken = tmp_path / "schema.json", tmp_path / "broken.json"
    schema.write_text('{"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"]}')
    broken.write_text("{")
    for options, status, out, told in (
        (["--schema", schema], 0, None, ""),
        (["--choice", "yes", "--choice", "no"], 0, "no\n", ""),
        (
            ["--regex", "a{9}", "--max-tokens", "4", "--speculation", "ngram"],
            1,
            "aaaa\n",
            "does not have its whole form",
        ),
        (["--schema", broken], 2, "", "it is no JSON"),
        (["--grammar", tmp_path / "g.txt"], 2, "", "neither in .lark nor in .gbnf"),
        (["--regex", "("], 4, "", "response_format.pattern"),
    ):
        command = [*MLX_SIDECAR, "generate", "fake?text=no", "x", "--engine", "fake", "--quiet", *map(str, options)]
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
        assert (done.returncode, told in done.stderr) == (status, True), done
        if out is None:
            assert isinstance(json.loads(done.stdout)["a"], bool)
        else:
            assert done.stdout == out


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


@pytest.mark.parametrize(
    ("words", "closed", "status", "said"),
    [
        (["generate", "fake"], "<&-", 4, "error: prompt"),
        (["chat", "fake"], "<&-", 0, ""),
        (["generate", "fake", "x"], ">&-", 1, "error: stdout is closed"),
        (["generate", "fake", "x"], "2>&-", 0, ""),
    ],
)
def test_a_standard_stream_that_is_closed_ends_no_command_in_a_traceback(
    words: list[str], closed: str, status: int, said: str
) -> None:
    command = shlex.join([*MLX_SIDECAR, *words, "--engine", "fake"])
    done = subprocess.run(["sh", "-c", f"{command} {closed}"], capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert done.returncode == status
    assert done.stderr.startswith(said)
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["models", "list", "/nowhere"], 1, "error: /nowhere is no folder"),
        (["models", "import", "x.gguf", "--output", "/"], 1, "error: / is there already"),
        (["manual", "--output", "/dev/null/x"], 1, "error: /dev/null/x cannot be written to"),
        (["manual", "caht"], 2, "did you mean 'chat'?"),
        (
            ["generate", "pocket", "x", "--adapter", "/nowhere"],
            3,
            "error: no model '/nowhere': there is no such adapter",
        ),
        (["generate", "pocket", "x", "--logit-bias", "1"], 2, "'1' is not TOKEN=N"),
    ],
)
def test_what_was_mistyped_is_told_on_one_line(words: list[str], status: int, said: str) -> None:
    done = subprocess.run([*MLX_SIDECAR, *words], capture_output=True, text=True, cwd=ROOT, timeout=PATIENCE_S)
    (line,) = done.stderr.splitlines()
    assert said in line
    assert not line.endswith("did you mean 'pocket'?")
    assert done.returncode == status


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_text_that_cannot_be_written_is_told_in_a_sentence_and_makes_the_status_1() -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run([*GENERATE, "x"], stdout=full, stderr=subprocess.PIPE, timeout=60)
    assert done.returncode == 1
    assert done.stderr.startswith(b"error: No space left")
    assert b"Traceback" not in done.stderr
