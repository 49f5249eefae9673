"""Walks docs/start.md as a stranger would: from nothing to a program of one's own in three languages, timed.

    python tools/walk.py [--installed] [--offline] [--gguf FILE]

Each command and each file is taken from the page as it stands, and run in an empty folder with an empty home. Two
things are given to it: this repository's folder in the place of URL, and the file of ``--gguf`` as model.gguf.
A block of commands is a step. Another block is a file, named by the words before it ("This is `ask.py`"). Each step
begins in the folder and with the variables that the one before it in its language has left.

``--installed`` leaves out the steps that install the engine, which take a compiler, and has that of this environment
on the search path. ``--offline`` leaves out those that install the clients too, and the clone: the rest needs no
network. The table names each step, its place in the page, and its seconds.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "start.md"
GGUF = ROOT / ".venv" / "models" / "smollm2.gguf"
ALWAYS = ("Install", "See that it works")
LANGUAGES = {"Python": "A program in Python", "Node": "A program in Node", "shell": "A program in a shell"}
REAL_MODEL = "With a real model"
ANSWER = "engine"  # a word of pocket's answer to the page's question
PATIENCE_S = 3600.0  # a slow network, and a compiler on a busy machine

_PARTS = re.compile(
    r"^## (?P<heading>[^\n]+)$|(?:^(?P<before>[^\n]+)\n\n)?(?:^<!-- (?P<said>[^\n]*) -->\n)?"
    r"^```(?P<language>\w+)\n(?P<text>.*?)^```$",
    re.DOTALL | re.MULTILINE,
)
_NAMED = re.compile(r"This is `([\w.-]+)`")
# The words by which commands that install an engine or a client are known.
_INSTALLS = {"engine": ("sidecar/bin",), "client": ("pip install", "npm ", "git clone")}
# A registry is reached as this machine reaches it; nothing else of the environment is a stranger's.
_KEPT = re.compile(r"PATH|LANG|TMPDIR|(PIP|NPM_CONFIG|npm_config)_\w+|\w*(PROXY|proxy)|\w*_(CERT|CERTS|CERT_FILE)")


@dataclass(frozen=True)
class Step:
    """A block of the page: commands, or the content of the file ``name``."""

    heading: str
    line: int
    text: str
    name: str | None
    installs: str | None


@dataclass
class Walk:
    """The way so far; ``folder`` is the stranger's, ``environment`` what the last step has left."""

    folder: Path
    environment: dict[str, str]
    rows: list[tuple[str, str, float]] = field(default_factory=list)
    place: Path = field(init=False)

    def __post_init__(self) -> None:
        self.place = self.folder

    def take(self, step: Step) -> str:
        """Run a step, or write its file; returns the output.

        Raises:
            RuntimeError: The step failed; the message has its place and what it wrote.
        """
        began = time.monotonic()
        output = self._write(step) if step.name else self._run(step)
        shown = step.text.strip().splitlines()[0][:56]
        more = "" if shown == step.text.strip() else "…"
        title = f"writes `{step.name}`" if step.name else f"`{shown}{more}`"
        row = title.replace("|", "\\|"), f"{step.heading}, line {step.line}", time.monotonic() - began
        self.rows.append(row)
        print(f"{row[2]:7.1f} s  {row[1]}: {row[0]}", file=sys.stderr, flush=True)
        return output

    def _write(self, step: Step) -> str:
        assert step.name is not None
        (self.place / step.name).write_text(step.text, encoding="utf-8")
        return ""

    def _run(self, step: Step) -> str:
        left = self.folder / ".left"
        # Its own exit status comes first, so that a failure is not hidden by the notes behind it.
        script = f'{step.text.replace("URL", str(ROOT))}\n{{ pwd; env -0; }} > "{left}"\n'
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=self.place,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            timeout=PATIENCE_S,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{PAGE.name}:{step.line}: status {done.returncode}\n{done.stdout}\n{done.stderr}")
        place, _, variables = left.read_text(encoding="utf-8").partition("\n")
        self.place = Path(place)
        pairs = (pair.partition("=") for pair in variables.split("\0") if pair)
        self.environment = {name: value for name, _, value in pairs if name not in ("_", "SHLVL", "PWD", "OLDPWD")}
        return done.stdout


def steps(page: Path = PAGE) -> Iterator[Step]:
    """Yield the blocks of a page that are run, in order; one said to be *not run* is none of them."""
    text = page.read_text(encoding="utf-8")
    heading = ""
    for part in _PARTS.finditer(text):
        if part["heading"]:
            heading = part["heading"]
        elif not (part["said"] or "").startswith("not run"):
            named = _NAMED.search(part["before"] or "")
            installs = next(
                (what for what, words in _INSTALLS.items() if any(word in part["text"] for word in words)), None
            )
            line = text.count("\n", 0, part.start("text"))
            yield Step(heading, line, part["text"], named[1] if named else None, None if named else installs)


def walk(
    folder: Path, without: Collection[str], gguf: Path | None
) -> tuple[list[tuple[str, str, float]], dict[str, float]]:
    """Walk the page in ``folder``, which is empty, ``without`` the steps that install an "engine" or a "client".

    Returns a row for each step, and the seconds of each language.

    Raises:
        RuntimeError: A step failed, or a program's answer is none.
    """
    home = folder / "home"
    home.mkdir()
    environment = {name: value for name, value in os.environ.items() if _KEPT.fullmatch(name)} | {"HOME": str(home)}
    if "engine" in without:
        environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    if "client" in without:
        _lend(folder)
    walked = Walk(folder, environment)
    by_heading: dict[str, list[Step]] = {}
    for step in steps():
        if step.installs not in without:
            by_heading.setdefault(step.heading, []).append(step)
    for heading in ALWAYS:
        for step in by_heading.get(heading, ()):
            walked.take(step)
    shared = sum(seconds for _, _, seconds in walked.rows)
    totals: dict[str, float] = {}
    for language, heading in LANGUAGES.items():
        before = len(walked.rows)
        walked.place = folder / "ask-node" if "client" in without and language == "Node" else folder
        answers = [walked.take(step) for step in by_heading[heading]]
        if ANSWER not in answers[-1]:
            raise RuntimeError(f"{language}: no answer in {answers[-1]!r}")
        totals[language] = shared + sum(seconds for _, _, seconds in walked.rows[before:])
    if gguf is not None:
        (folder / "model.gguf").symlink_to(gguf)
        walked.place = folder
        if not [walked.take(step) for step in by_heading[REAL_MODEL]][-1].strip():
            raise RuntimeError("the real model gave no answer")
    return walked.rows, totals


def _lend(folder: Path) -> None:
    """Make what the steps that install would have made, of this environment and this checkout."""
    (folder / "mlx-sidecar").symlink_to(ROOT)
    (folder / "ask-python" / "bin").mkdir(parents=True)
    python = folder / "ask-python" / "bin" / "python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n', encoding="utf-8")
    python.chmod(0o755)
    modules = folder / "ask-node" / "node_modules"
    modules.mkdir(parents=True)
    (modules / "mlx-sidecar").symlink_to(ROOT / "clients" / "typescript")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Walks docs/start.md from nothing to three programs, timed.")
    parser.add_argument("--installed", action="store_true", help="leave out the engine, which is here")
    parser.add_argument("--offline", action="store_true", help="leave out what is installed; needs no network")
    parser.add_argument("--gguf", type=Path, default=GGUF if GGUF.is_file() else None, help="the file for a real model")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="walk-") as folder:
        without = {"engine", "client"} if options.offline else {"engine"} if options.installed else set()
        rows, totals = walk(Path(folder), without, options.gguf and options.gguf.resolve())
    print(f"{platform.system()}, {os.cpu_count()} cores, Python {platform.python_version()}\n")
    print("| step | in start.md | seconds |\n|---|---|---|")
    for title, place, seconds in rows:
        print(f"| {title} | {place} | {seconds:.1f} |")
    if options.gguf is None:
        print(f"| not walked: no GGUF file was named | {REAL_MODEL} | |")
    begin = "installed clients" if "client" in without else "an installed engine" if without else "nothing"
    print(f"\n| from {begin} to an answer in | seconds |\n|---|---|")
    for language, seconds in totals.items():
        print(f"| {language} | {seconds:.0f} |")


if __name__ == "__main__":
    main()
