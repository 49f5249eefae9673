"""Defaults of options from the environment and from a file."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mlx_sidecar.cli.arguments import command_line
from mlx_sidecar.cli.failures import Refused
from mlx_sidecar.cli.sampling import sampling
from mlx_sidecar.cli.settings import apply
from tests.support.byte_host import PATIENCE_S
from tests.support.sidecar import ROOT


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "config.toml"
    monkeypatch.setenv("MLX_SIDECAR_CONFIG", str(path))
    return path


def given(*words: str) -> dict[str, object]:
    """The sampling parameters of a command line, over the settings."""
    parser = command_line(words)
    apply(parser.commands[words[0]], words[0])
    args = parser.parse(words)
    return {"model": args.model, "engine": args.engine, **sampling(args)}


def test_the_command_line_goes_before_the_environment_and_that_before_the_file(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write_text('engine = "fake"\ntop-k = 3\n[chat]\nmodel = "a/b"\nmax-tokens = 5\nseed = 1\nstop = ["x", "y"]\n')
    monkeypatch.setenv("MLX_SIDECAR_SEED", "2")
    monkeypatch.setenv("MLX_SIDECAR_IGNORE_EOS", "true")
    monkeypatch.setenv("MLX_SIDECAR_MAX_TOKENS", "6")
    shared = {"engine": "fake", "top_k": 3, "seed": 2, "ignore_eos": True}
    assert given("chat", "--max-tokens", "7") == {"model": "a/b", "max_tokens": 7, "stop": ["x", "y"], **shared}
    assert given("generate", "m") == {"model": "m", "max_tokens": 6, **shared}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[chat]\ntemprature = 1", "did you mean 'temperature'?"),
        ("[chta]\n", "did you mean 'chat'?"),
        ('engine = "fast"', "'fast' is not known"),
        ("seed = 1.5", "no whole number"),
        ('ignore-eos = "perhaps"', "neither true nor false"),
        ("chat = 3", r"chat is a command, whose options stand below \[chat\]"),
        ("temperature = 2020-01-01", "no number"),
        ("=", "config.toml"),
    ],
)
def test_a_setting_that_cannot_be_honoured_is_refused_by_name(file: Path, content: str, said: str) -> None:
    file.write_text(content)
    with pytest.raises(Refused, match=said) as refused:
        given("chat")
    assert refused.value.status == 2


def test_serve_takes_the_environment_and_no_file(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text('log-level = "debug"\n')
    monkeypatch.setenv("MLX_SIDECAR_STALL_AFTER_S", "30")
    parser = command_line(["serve"])
    apply(parser.commands["serve"], "serve")
    args = parser.parse(["serve"])
    assert (args.stall_after_s, args.log_level) == (30.0, "warning")


def test_every_default_is_shown_with_its_origin(file: Path) -> None:
    file.write_text("seed = 1\nsed = 2\ntop-p = 2020-01-01\n")
    command = [sys.executable, "-m", "mlx_sidecar", "config", "show"]
    env = {**os.environ, "MLX_SIDECAR_TOP_K": "4", "MLX_SIDECAR_TOPK": "4"}
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=PATIENCE_S, env=env, check=True)
    assert f"generate --seed 1  ({file})" in done.stdout
    assert 'chat --top-k "4"  (MLX_SIDECAR_TOP_K)' in done.stdout
    assert f'generate --top-p "2020-01-01"  ({file})' in done.stdout
    assert "sed in" in done.stderr
    assert "MLX_SIDECAR_TOPK is not read" in done.stderr
