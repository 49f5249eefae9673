"""The shell client, and the examples for the shell, with dash, jq and a real sidecar."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.byte_host import PATIENCE_S
from tests.support.sidecar import ROOT

EXAMPLES = ROOT / "examples" / "shell"
TAP = ROOT / "clients" / "conformance" / "tap.py"
SIDECAR = f"{sys.executable} -m mlx_sidecar"
OPEN = f". '{ROOT}/clients/shell/mlx-sidecar.sh'; sidecar_open || exit\n"


@pytest.fixture(autouse=True)
def _programs() -> None:
    for name in ("sh", "jq"):
        if shutil.which(name) is None:
            assert "CI" not in os.environ, f"CI needs {name}"
            pytest.skip(f"{name} is not installed")


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """With a ``mlx-sidecar`` on the search path, whose engine is ``$ENGINE``, and a folder for temporary files."""
    programs, temporary = tmp_path / "bin", tmp_path / "tmp"
    programs.mkdir()
    temporary.mkdir()
    command = programs / "mlx-sidecar"
    command.write_text(f'#!/bin/sh\nexec {SIDECAR} "$@" ${{ENGINE:+--engine $ENGINE}}\n')
    command.chmod(0o755)
    sources = os.pathsep.join([str(ROOT / "runtime"), str(ROOT / "protocol"), os.environ.get("PYTHONPATH", "")])
    path = f"{programs}{os.pathsep}{os.environ['PATH']}"
    kept = {name: value for name, value in os.environ.items() if name != "MLX_SIDECAR"}
    return {**kept, "PATH": path, "TMPDIR": str(temporary), "PYTHONPATH": sources}


def run(script: str, environment: dict[str, str], said: str = "", cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    command = ["sh", "-c", script]
    return subprocess.run(
        command, env=environment, cwd=cwd, input=said, capture_output=True, encoding="utf-8", timeout=PATIENCE_S
    )


@pytest.fixture
def fake(environment: dict[str, str]) -> dict[str, str]:
    return {**environment, "ENGINE": "fake"}


@pytest.fixture
def tapped(fake: dict[str, str], tmp_path: Path) -> tuple[dict[str, str], Path]:
    """A sidecar whose frames are written down, and which dies when it is asked to unload something."""
    transcript, plan = tmp_path / "transcript.jsonl", tmp_path / "plan.json"
    deaths = [{"from": "host", "frame": {"method": "unload"}}]
    plan.write_text(json.dumps({"sidecar": SIDECAR.split(), "transcript": str(transcript), "dies": deaths}))
    command = tmp_path / "bin" / "tapped"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} {TAP} {plan} "$@" --engine fake\n')
    command.chmod(0o755)
    return {**fake, "MLX_SIDECAR": str(command)}, transcript


def from_host(transcript: Path) -> list[str]:
    """The methods of all that the host said."""
    lines = map(json.loads, transcript.read_text().splitlines())
    return [line["frame"]["method"] for line in lines if line.get("from") == "host"]


# Examples.


def examples() -> list[str]:
    text = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    return re.findall(r"^```sh\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("number", range(len(examples())))
def test_an_example_of_the_readme_prints_what_pocket_says(number: int, environment: dict[str, str]) -> None:
    done = run(examples()[number], environment)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search("mlx-sidecar|engine|delta", done.stdout), done.stdout


def test_an_example_streams_from_the_fake_engine_character_by_character(fake: dict[str, str]) -> None:
    done = run(examples()[1].replace('"pocket"', '"fake?text=é 漢 🦜"'), fake)
    assert done.stdout == "é 漢 🦜"


def test_an_error_ends_the_command_with_its_message(fake: dict[str, str]) -> None:
    done = run(examples()[2].replace('"pocket"', '"fake?fail_load=model_not_found"'), fake)
    assert done.returncode != 0
    assert "no model" in done.stderr


def test_the_chat_remembers_what_was_said(fake: dict[str, str]) -> None:
    done = run("exec sh examples/shell/chat.sh 'fake?echo=1'", fake, said='first "one"\nsecond\n')
    assert done.returncode == 0
    first, *_ = done.stdout.partition("\n")
    assert 'first "one"' in first
    assert done.stdout.count('first "one"') > 2, "the second prompt has the first question and its answer"
    assert "second" in done.stdout


def test_the_chat_streams_from_pocket(environment: dict[str, str]) -> None:
    done = run("exec sh examples/shell/chat.sh", environment, said="What is mlx-sidecar?\n")
    assert "engine" in done.stdout


# The client.


def test_a_call_prints_its_result_or_its_error(fake: dict[str, str]) -> None:
    script = OPEN + 'sidecar_call tokenize \'{"model":"fake","text":"hi"}\'; sidecar_call no/such \'{}\'; echo $?'
    result, error, status = run(script, fake).stdout.splitlines()
    assert json.loads(result)["tokens"] == [104, 105]
    assert json.loads(error)["data"]["kind"] == "method_not_found"
    assert status == "1"


def test_the_client_is_one_file_that_may_lie_anywhere(fake: dict[str, str], tmp_path: Path) -> None:
    place = tmp_path / "a place with spaces"
    place.mkdir()
    shutil.copy(ROOT / "clients" / "shell" / "mlx-sidecar.sh", place)
    (place / "link to it").symlink_to("mlx-sidecar.sh")
    (place / "mlx-sidecar").symlink_to(tmp_path / "bin" / "mlx-sidecar")
    script = '. "./link to it"; sidecar_open || exit; cd /; sidecar_call ping "{}"'
    done = run(script, {**fake, "MLX_SIDECAR": str(place / "mlx-sidecar")}, cwd=place)
    assert (done.returncode, done.stdout, done.stderr) == (0, "{}\n", "")


def test_a_script_beside_it_is_found_through_links_from_any_folder(fake: dict[str, str], tmp_path: Path) -> None:
    checkout = tmp_path / "a checkout"
    checkout.symlink_to(ROOT)
    (tmp_path / "first link").symlink_to(checkout / "examples" / "shell" / "chat.sh")
    (tmp_path / "the chat").symlink_to("first link")
    done = run(f"exec sh '{tmp_path}/the chat' 'fake?text=found'", fake, said="Where?\n", cwd=Path("/"))
    assert (done.returncode, done.stdout) == (0, "found\n")


def test_the_functions_work_in_pipelines_and_command_substitutions_under_set_e_and_u(fake: dict[str, str]) -> None:
    generate = """sidecar_generate '{"model":"fake?text=to be streamed","prompt":"x"}'"""
    script = f"set -eu\n{OPEN}{generate} | jq -rj '.text // empty'; {generate} | tail -n 1 | jq -r .result.text\n"
    script += "echo $(sidecar_call ping '{}') $(sidecar_call ping '{}')"
    done = run(script, fake)
    assert (done.stdout, done.stderr) == ("to be streamedto be streamed\n{} {}\n", "")


def test_a_reader_that_leaves_cancels(tapped: tuple[dict[str, str], Path]) -> None:
    environment, transcript = tapped
    generate = """sidecar_generate '{"model":"fake?tokens=100000&context=200000&delay_ms=20","prompt":"x"}'"""
    done = run(f"{OPEN}{generate} | head -n 2 | jq -c .seq; sidecar_call ping '{{}}'", environment)
    assert done.stdout == "0\n1\n{}\n"
    assert from_host(transcript)[2:] == ["generate", "stream/cancel", "ping", "shutdown", "exit"]


def test_a_sidecar_that_is_gone_is_status_2_and_no_hang(tapped: tuple[dict[str, str], Path]) -> None:
    environment, _ = tapped
    unload = 'sidecar_call unload \'{"model":"x"}\'; echo $?'
    ping = "sidecar_call ping '{}'; echo $?"
    generate = 'sidecar_generate \'{"model":"fake","prompt":"x"}\'; echo $?'
    assert run(f"{OPEN}{unload}; {ping}; {generate}", environment).stdout == "2\n2\n2\n"


def test_an_executable_that_is_not_there_is_said_with_what_to_install(fake: dict[str, str]) -> None:
    done = run(OPEN, {**fake, "MLX_SIDECAR": "no-such-sidecar"})
    assert done.returncode == 127
    assert "no-such-sidecar is not there" in done.stderr
    assert "docs/install.md" in done.stderr


def test_nothing_is_left_of_a_script_that_ends(fake: dict[str, str]) -> None:
    done = run(f'{OPEN}ls "$TMPDIR"; exit 5', fake)
    assert done.stdout, "there was something while it ran"
    assert done.returncode == 5
    assert list(Path(fake["TMPDIR"]).iterdir()) == []


def test_nothing_is_left_of_a_script_that_is_ended_in_mid_stream(fake: dict[str, str]) -> None:
    generate = """sidecar_generate '{"model":"fake?tokens=100000&context=200000&delay_ms=20","prompt":"x"}'"""
    with subprocess.Popen(["sh", "-c", OPEN + generate], env=fake, stdout=subprocess.PIPE, encoding="utf-8") as process:
        assert process.stdout
        assert '"seq":0' in process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        process.stdout.read()
        assert process.wait(PATIENCE_S) == 143
    assert list(Path(fake["TMPDIR"]).iterdir()) == []
