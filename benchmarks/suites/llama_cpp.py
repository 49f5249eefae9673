"""llama.cpp's own tests of its server, run against the gateway.

    python -m benchmarks.suites.llama_cpp [--only WORDS] [--model MODEL] [--embedder MODEL] [--sdist FILE]
        [--keep FOLDER]

The tests come with the source distribution of llama-cpp-python, which pip downloads (76 MB) unless ``--sdist`` names
it, into a temporary folder; nothing of them is in this repository. Each test starts a gateway of its own, by
``llama_server.py``, on ports from 8080 on. ``llama_cpp_cases.py`` lists those that are left out, each with its reason.
The exit status is 1 if another one fails.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tarfile
import tempfile
import venv
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import IO, NamedTuple
from xml.etree import ElementTree

from ..measure import machine
from .llama_cpp_cases import reason_to_leave_out

ROOT = Path(__file__).parents[2]
MINILM = str(ROOT / ".venv" / "models" / "minilm")
SDIST = "llama-cpp-python==0.3.36"
TESTS = "vendor/llama.cpp/tools/server/tests/"
NEEDED = ("filelock", "numpy", "openai", "pytest", "requests", "wget")


class Case(NamedTuple):
    """A test's name, ``passed``, ``failed`` or ``skipped``, and the first line of its error."""

    name: str
    outcome: str
    error: str


def main() -> None:
    given = _parser().parse_args()
    with tempfile.TemporaryDirectory(prefix="llama-cpp-tests-") as temporary:
        folder = (given.keep or Path(temporary)).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        suite = Suite(folder, _tests(folder, given.sdist), given.model, given.embedder)
        found = [name for name in suite.names() if given.only in name]
        left_out = {name: why for name in found if (why := reason_to_leave_out(name)) is not None}
        cases = suite.run([name for name in found if name not in left_out])
    sys.exit(_report(cases, left_out, given))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.suites.llama_cpp", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--only", default="", metavar="WORDS", help="tests that have these words in their names")
    parser.add_argument("--model", default="pocket", help="that the gateway serves (default: pocket)")
    parser.add_argument("--embedder", default=MINILM, help="for those that want vectors (default: that of setup-real)")
    parser.add_argument("--sdist", type=Path, metavar="FILE", help=f"of {SDIST}, in the place of downloading it")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="for what is downloaded, and used again from there")
    return parser


def _tests(folder: Path, sdist: Path | None) -> Path:
    """The folder with the tests, which is made in ``folder`` unless it is there."""
    tests = folder / "tests"
    if not tests.exists():
        archive = sdist or _downloaded(folder)
        with tarfile.open(archive) as content:
            for member in content:
                _, _, name = member.name.partition(f"/{TESTS}")
                if name:
                    member.name = name
                    content.extract(member, tests, filter="data")
    return tests


def _downloaded(folder: Path) -> Path:
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    command = [*pip, "download", "--no-deps", "--no-binary", "llama-cpp-python", "--dest", str(folder), SDIST]
    subprocess.run(command, check=True, stdout=sys.stderr)
    return next(folder.glob("llama_cpp_python-*.tar.gz"))


class Suite:
    """The tests, in ``tests``; ``folder`` is for what running them needs, the models are those of the gateway."""

    def __init__(self, folder: Path, tests: Path, model: str, embedder: str) -> None:
        self._folder = folder
        self._tests = tests
        self._python = _python(folder)
        self._environment = {
            **os.environ,
            "LLAMA_SERVER_BIN_PATH": str(_server(folder)),
            "MLX_SIDECAR_CONFIG": "",
            "MLX_SIDECAR_SUITE_EMBEDDER": embedder,
            "MLX_SIDECAR_SUITE_MODEL": model,
            "PYTHONPATH": str(ROOT),
        }

    def names(self) -> list[str]:
        """The names of all tests, ``FILE::TEST``."""
        told = self._pytest("--collect-only", "--quiet", "unit", stdout=subprocess.PIPE).stdout
        return [line.removeprefix("unit/") for line in told.splitlines() if line.startswith("unit/")]

    def run(self, names: list[str]) -> list[Case]:
        """Run tests one after the other."""
        told, log = self._folder / "cases.xml", self._folder / "log.txt"
        print(f"running {len(names)} tests; {log} has what they say", file=sys.stderr, flush=True)
        with log.open("w") as output:
            self._pytest("--verbose", "--junitxml", str(told), *(f"unit/{name}" for name in names), stdout=output)
        return [_case(each) for each in ElementTree.parse(told).iter("testcase")]

    def _pytest(self, *options: str, stdout: int | IO[str]) -> subprocess.CompletedProcess[str]:
        command = [str(self._python), "-m", "pytest", "-p", "no:cacheprovider", *options]
        return subprocess.run(
            command,
            cwd=self._tests,
            env=self._environment,
            stdout=stdout,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )


def _python(folder: Path) -> Path:
    """An interpreter that has what the tests import."""
    python = folder / "python" / "bin" / "python"
    if not python.exists():
        venv.create(folder / "python", with_pip=True)
        command = [str(python), "-m", "pip", "--disable-pip-version-check", "install", "--quiet", *NEEDED]
        subprocess.run(command, check=True, stdout=sys.stderr)
    return python


def _server(folder: Path) -> Path:
    """A program that starts a gateway by the options of llama-server."""
    path = folder / "llama-server"
    path.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m benchmarks.suites.llama_server "$@"\n')
    path.chmod(0o755)
    return path


def _case(told: ElementTree.Element) -> Case:
    trouble = next((each for each in told if each.tag in ("failure", "error")), None)
    outcome = "failed" if trouble is not None else "skipped" if told.find("skipped") is not None else "passed"
    error = "" if trouble is None else trouble.get("message", "").partition("\n")[0]
    return Case(f"{told.get('classname', '').rpartition('.')[2]}.py::{told.get('name')}", outcome, error)


def _report(cases: list[Case], left_out: Mapping[str, str], given: argparse.Namespace) -> int:
    """Print what became of the cases; returns the exit status."""
    failed = [case for case in cases if case.outcome != "passed"]
    models = f"{Path(given.model).name} and {Path(given.embedder).name}"
    print(f"{machine()}; {SDIST}; the gateway with {models}\n")
    print(f"{len(cases) - len(failed)} of the {len(cases)} content-neutral tests pass; {len(left_out)} are left out:\n")
    for reason, count in Counter(left_out.values()).most_common():
        print(f"{count:4} {reason}")
    for case in failed:
        print(f"\n{case.outcome}: {case.name}\n    {case.error}")
    return 1 if failed else 0


if __name__ == "__main__":
    main()
