"""Completion and the manual say what the parser says."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from mlx_sidecar import cli
from mlx_sidecar.cli.arguments import command_line
from mlx_sidecar.cli.parser import Parser
from tests.support.byte_host import PATIENCE_S


def test_bash_completes_commands_and_options(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        cli.main(["completion", "bash"])
    assert left.value.code == 0
    script = capsys.readouterr().out
    ask = (
        'COMP_WORDS=(mlx-sidecar {words}); COMP_CWORD=$(( ${{#COMP_WORDS[@]}} - 1 )); COMP_LINE="mlx-sidecar {words}";'
        " _shtab_mlx_sidecar mlx-sidecar; echo ${{COMPREPLY[@]}}"
    )
    for words, expected in (("mo", "models"), ("models sh", "show"), ("generate --top", "--top-p --top-k")):
        done = subprocess.run(
            ["bash", "-c", script + "\n" + ask.format(words=words)], capture_output=True, text=True, timeout=PATIENCE_S
        )
        assert done.stdout.split() == expected.split(), done.stderr


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_get_every_command(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["completion", shell])
    script = capsys.readouterr().out
    assert all(name in script for name in command_line().commands)
    if shutil.which(shell):
        done = subprocess.run([shell, "-n"], input=script, capture_output=True, text=True, timeout=PATIENCE_S)
        assert done.returncode == 0, done.stderr


def options(parser: Parser) -> set[str]:
    own = {option for action in parser._actions for option in action.option_strings}
    return own.union(*map(options, parser.commands.values()))


def test_the_manual_has_a_page_for_every_command_and_names_every_option(tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as left:
        cli.main(["manual", "--output", str(tmp_path)])
    assert left.value.code == 0
    assert (tmp_path / "mlx-sidecar-models-list.1").exists()
    text = "\n".join(page.read_text() for page in tmp_path.iterdir())
    assert {
        option for option in options(command_line()) if rf"\fB{option.replace('-', chr(92) + '-')}\fR" not in text
    } == set()
    assert not re.search(r"^[.'](?!TH|SH|TP|nf|fi)", text, re.MULTILINE)
    if shutil.which("groff"):
        for page in tmp_path.iterdir():
            done = subprocess.run(
                ["groff", "-man", "-Tutf8", "-ww", str(page)], capture_output=True, text=True, timeout=PATIENCE_S
            )
            assert done.stderr == ""
