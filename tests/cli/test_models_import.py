"""GGUF files at the command line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from gguf import GGMLQuantizationType as Kind

from mlx_sidecar.cli import main
from tests.support.ggufs import write_example

MODEL = 3  # the exit status for a model that cannot be had


@pytest.fixture
def file(tmp_path: Path) -> Path:
    write_example(path := tmp_path / "small.gguf", "llama", Kind.Q8_0)
    return path


def status(*words: str) -> int | str | None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    return ended.value.code


def test_import_makes_a_directory_and_tells_what_became_of_the_weights(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = file.with_suffix("")
    assert not status("models", "import", str(file), "--output", str(output))
    told = capsys.readouterr().out.splitlines()
    assert told[0].startswith(f"{output}: llama, ")
    assert "  16 tensors of Q8_0 as 8 bits: without loss" in told
    assert {each.name for each in output.iterdir()} >= {"config.json", "model.safetensors", "tokenizer.json"}


def test_a_file_that_cannot_be_imported_is_told_on_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (path := tmp_path / "odd.gguf").write_bytes(b"GGUF" + bytes(3))
    assert status("models", "import", str(path), "--output", str(tmp_path / "made")) == MODEL
    assert capsys.readouterr().err == "error: 'odd.gguf' could not be loaded: its first bytes: the file ends in it\n"
    assert list(tmp_path.iterdir()) == [path]


def generate(file: Path, home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", "-m", "mlx_sidecar", "generate", str(file), "hello", "--max-tokens", "2", *words]
    environment = {**os.environ, "XDG_CACHE_HOME": str(home)}
    return subprocess.run(command, capture_output=True, text=True, env=environment)


@pytest.mark.skipif(sys.platform == "darwin", reason="its cache directory is not to be moved")
def test_a_gguf_path_offers_the_import_and_with_the_option_does_it(file: Path, tmp_path: Path) -> None:
    refused = generate(file, tmp_path)
    assert refused.returncode == MODEL
    assert "mlx-sidecar models import FILE --output DIR" in refused.stderr
    assert generate(file, tmp_path, "--import").returncode == 0
    (made,) = (tmp_path / "mlx-sidecar" / "imported").iterdir()
    assert made.name.startswith("small-")
