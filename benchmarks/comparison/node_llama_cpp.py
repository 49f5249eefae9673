"""node-llama-cpp, which is a library: the questions are asked by a program of it, node_llama_cpp.mjs.

A question to servers alone has a dash.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

from .questions import FORM, LONG_TOKENS, PREAMBLE, QUESTIONS

PROGRAM = Path(__file__).with_name("node_llama_cpp.mjs")
NOT_OF_A_LIBRARY = "–"
# The names that the program has for the questions.
KEYS = {title: question.__name__ for title, question in QUESTIONS.items()}


def _package() -> Path:
    return Path(os.environ["NODE_LLAMA_CPP"]).resolve() / "node_modules" / "node-llama-cpp"


def version() -> str:
    """Return its name and version."""
    return f"node-llama-cpp {json.loads((_package() / 'package.json').read_text())['version']}"


def ask(gguf: Path, told: Callable[[str, str], None]) -> Mapping[str, str]:
    """Run the program on a model, and once more to kill it in mid-answer.

    Raises:
        RuntimeError: The program ended before its last answer.
    """
    answers = {}
    for key, cell in _lines("ask", gguf):
        answers[key] = cell
        told(key, cell)
    if "memory" not in answers:
        raise RuntimeError(f"{PROGRAM.name} ended before its last answer")
    last = [key for key, _ in _lines("killed", gguf)][-1]
    answers["killed"] = "the program ends with it" if last == "begun" else "goes on to its end"
    told("killed", answers["killed"])
    return {title: answers.get(key, NOT_OF_A_LIBRARY) for title, key in KEYS.items()}


def _lines(task: str, gguf: Path) -> list[tuple[str, str]]:
    given = {"package": str(_package() / "dist" / "index.js"), "gguf": str(gguf), "task": task}
    given |= {"form": FORM, "preamble": PREAMBLE, "long": LONG_TOKENS}  # type: ignore[dict-item]
    pairs = []
    with subprocess.Popen(["node", PROGRAM, json.dumps(given)], stdout=subprocess.PIPE, encoding="utf-8") as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith('{"key"'):
                pair = json.loads(line)
                pairs.append((pair["key"], pair["cell"]))
                if pair["key"] == "begun":
                    process.kill()
    return pairs
