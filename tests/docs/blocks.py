"""The commands in documents: fenced blocks, what a comment before each says of it, and how to run it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
COMMANDS = {"sh", "bash", "python", "js", "ts"}
PROGRAMS = ("mlx-sidecar ", "python ", "make ", "pip ", "pipx ", "npm ", "curl ", "echo ", "printf ", "sh ")
PATIENCE_S = 240.0  # SDKs are large, and a busy machine takes its time to import one
GATEWAY = "http://127.0.0.1:8080"

_BLOCK = re.compile(
    r"(?:^<!-- (?P<said>[^\n]*) -->\n)?^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE
)


@dataclass(frozen=True)
class Block:
    """One fenced block. ``said`` is the comment in the line before it, empty where there is none.

    A comment is ``not run: REASON``, ``run by FILE``, or ``run: WORDS`` of ``gateway`` (one runs meanwhile) and ``goes
    on`` (behind the last block in its language). A block without one is run alone.
    """

    document: str
    line: int
    language: str
    said: str
    text: str

    @property
    def words(self) -> set[str]:
        """The conditions of its run."""
        said = self.said.removeprefix("run: ")
        return set() if said == self.said else {word.strip() for word in said.split(",")}

    @property
    def is_run_here(self) -> bool:
        return not self.said or self.said.startswith("run: ")


def blocks(document: Path) -> list[Block]:
    """Return the commands of a document, those that go on joined to the ones before them."""
    found: list[Block] = []
    text = document.read_text(encoding="utf-8")
    for match in _BLOCK.finditer(text):
        language, said, body = match["language"], match["said"] or "", match["text"]
        line = text.count("\n", 0, match.start()) + 1
        block = Block(str(document.relative_to(ROOT)), line, language, said, body)
        if language in COMMANDS:
            if "goes on" in block.words:
                before = next(one for one in reversed(found) if one.language == language)
                found.remove(before)  # it is run as the beginning of this one
                block = replace(block, text=before.text + "\n" + body)
            found.append(block)
    return found


def unnamed_commands(document: Path) -> list[str]:
    """Return the places of blocks without a language in which a line begins as a command does."""
    text = document.read_text(encoding="utf-8")
    unnamed = [match for match in _BLOCK.finditer(text) if not match["language"]]
    return [
        f"{document.relative_to(ROOT)}:{text.count(chr(10), 0, match.start()) + 1}"
        for match in unnamed
        if any(line.startswith(PROGRAMS) for line in match["text"].splitlines())
    ]


def run(block: Block, folder: Path, gateway: str = GATEWAY) -> str:
    """Run a block in ``folder``, with the gateway at ``gateway``; returns what it wrote."""
    text = block.text.replace(GATEWAY, gateway)
    node = ["node", "--input-type=module", "-e", text]
    commands = {"python": [sys.executable, "-c", text], "js": node}
    command = commands.get(block.language, ["bash", "-euo", "pipefail", "-c", text])
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        cwd=ROOT / "clients" / "typescript" if block.language == "js" else folder,
        env=_environment(folder),
        timeout=PATIENCE_S,
    )
    assert done.returncode == 0, f"{block.document}:{block.line}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def _environment(home: Path) -> dict[str, str]:
    """An environment with the commands of this one, and a home of its own without a network's models."""
    found = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    folders = {name: str(home / name) for name in ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME", "HF_HOME")}
    own = {"PATH": found, "HOME": str(home), "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    return {**os.environ, **folders, **own}
