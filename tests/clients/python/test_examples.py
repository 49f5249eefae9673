"""The Python examples, run as a user would run them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.support.sidecar import ROOT

from .support import PATIENCE_S


def test_the_chat_answers_each_question_in_turn() -> None:
    executable = str(Path(sys.executable).with_name("mlx-sidecar"))
    done = subprocess.run(
        [sys.executable, ROOT / "examples" / "python" / "chat.py"],
        input="What is mlx-sidecar?\nHow do I cancel a request?\n",
        env={**os.environ, "MLX_SIDECAR": executable},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=True,
    )
    _, first, second, _ = done.stdout.split("> ")
    assert "engine" in first
    assert "cancel" in second
