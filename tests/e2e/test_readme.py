"""The examples of the README, run as they stand."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.byte_host import PATIENCE_S
from tests.support.programs import program
from tests.support.sidecar import ROOT

NODE = ROOT / "tests" / "node"
BIN = Path(sys.executable).parent


def example(language: str, word: str) -> str:
    """The code block of ``language`` that contains ``word``."""
    blocks = re.findall(rf"^```{language}\n(.*?)^```", (ROOT / "README.md").read_text(), re.DOTALL | re.MULTILINE)
    (block,) = [block for block in blocks if word in block]
    return str(block)


def run(command: list[str], folder: Path = ROOT, **more: str) -> str:
    """The output; ``mlx-sidecar`` is found as it would be in an environment where it is installed."""
    environment = {**os.environ, **more, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment, timeout=PATIENCE_S)
    assert done.returncode == 0, done.stderr
    return done.stdout


pytestmark = pytest.mark.skipif(
    not (BIN / "mlx-sidecar").exists(), reason="mlx-sidecar is not installed, only imported"
)


def test_the_shell_example_prints_an_answer() -> None:
    assert '"finish_reason":"stop"' in run(["bash", "-c", example("sh", "printf")])


def test_the_python_example_streams_an_answer() -> None:
    assert "engine" in run([sys.executable, "-c", example("python", "stream/delta")])


def test_the_example_of_the_prefix_cache_names_what_changed(tmp_path: Path) -> None:
    output = run([sys.executable, "-c", example("python", "explain_cache")], XDG_CACHE_HOME=str(tmp_path))
    assert "a date or a time differs" in output
    assert list(tmp_path.rglob("mlx-sidecar/prefixes"))


def test_the_example_of_the_python_client_streams_an_answer() -> None:
    assert "engine" in run([sys.executable, "-c", example("python", "stream.result.usage")])


def test_the_example_of_a_form_prints_an_answer_that_has_it() -> None:
    output = run([sys.executable, "-c", example("python", "response_format")])
    assert '"name"' in output
    assert "complete=True" in output


def test_the_example_of_the_typescript_client_streams_an_answer() -> None:
    node = program("node")
    client = ROOT / "clients" / "typescript"
    if not (client / "dist").is_dir():
        assert "CI" not in os.environ, "CI needs clients/typescript/dist"
        pytest.skip("clients/typescript/dist is missing: make setup-clients")
    assert "engine" in run([node, "--input-type=module", "-e", example("js", 'from "mlx-sidecar"')], client)


@pytest.mark.skipif(
    not os.environ.get("CI") and not (shutil.which("node") and (NODE / "node_modules").exists()),
    reason="no Node, or no packages in tests/node",
)
def test_the_node_example_streams_an_answer_and_ends() -> None:
    output = run(["node", "--input-type=module", "-e", example("js", "vscode-jsonrpc")], NODE)
    assert "engine" in output
    assert "stop" in output
