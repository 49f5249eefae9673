"""The Python examples, run as a user would run them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.support.encoder_models import write_encoder
from tests.support.sidecar import ROOT

from .support import PATIENCE_S


def run(name: str, *words: str, said: str = "") -> str:
    """Run an example with ``words`` as its arguments and ``said`` as its input; returns its output."""
    executable = str(Path(sys.executable).with_name("mlx-sidecar"))
    done = subprocess.run(
        [sys.executable, ROOT / "examples" / "python" / name, *words],
        input=said,
        env={**os.environ, "MLX_SIDECAR": executable},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=True,
    )
    return done.stdout


def test_the_chat_answers_each_question_in_turn() -> None:
    _, first, second, _ = run("chat.py", said="What is mlx-sidecar?\nHow do I cancel a request?\n").split("> ")
    assert "engine" in first
    assert "cancel" in second


def test_the_agent_reads_the_file_adds_up_and_answers_with_the_sum() -> None:
    said = run("agent.py")
    assert 'read_file({"name": "prices.csv"}):\nthing,price\napples,3.20' in said
    assert 'add_up({"name": "prices.csv", "column": "price"}):\n19.5\n' in said
    assert said.splitlines()[-1] in ("Together they cost 19.5.", "They cost 19.5 together.")


def test_the_search_prints_the_nearest_paragraph_first(tmp_path: Path) -> None:
    model = write_encoder(tmp_path / "encoder", "bert")
    paragraph = "The chain wants oil after rain. The brakes were changed in spring."
    first, *others = run("search.py", str(model), paragraph).splitlines()
    assert first == f"1.00 bicycle.md: {paragraph}"
    assert len(others) == 2
