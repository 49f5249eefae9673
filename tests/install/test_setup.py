"""`make` does each thing once, and the packages say the same of themselves."""

from __future__ import annotations

import json
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PYPROJECTS = [ROOT / "pyproject.toml", ROOT / "clients" / "python" / "pyproject.toml"]
PACKAGE_JSONS = [
    ROOT / name / "package.json"
    for name in ("clients/typescript", "clients/vscode", "examples/node", "examples/vscode", "tests/node")
]
# Ways to install that are not there: nothing of ours is in a registry.
NOT_THERE = re.compile(r"(?:pip|pipx|tool|npm) install [`'\"]?mlx-sidecar|mlx-sidecar-protocol")
TEXTS = {".md", ".py", ".ts", ".lua", ".sh", ".txt", ".toml", ".mjs", ".cjs", ".json"}


def tracked(pattern: str = "*") -> list[Path]:
    """Return the files of the repository whose paths match ``pattern``."""
    told = subprocess.run(["git", "ls-files", "-z", pattern], cwd=ROOT, capture_output=True, text=True, check=True)
    return [file for name in told.stdout.split("\0") if (file := ROOT / name).is_file()]


def test_bytecode_of_the_native_package_is_no_reason_to_build_it_again(tmp_path: Path) -> None:
    """``make`` after ``make demo`` builds nothing: Python's own files are no sources."""
    (tmp_path / "native" / "package" / "__pycache__").mkdir(parents=True)
    for name in ("native/CMakeLists.txt", "native/package/__pycache__/a.pyc"):
        (tmp_path / name).write_text("")
    command = ["make", "--print-data-base", "--question", "--makefile", str(ROOT / "Makefile"), "clean"]
    told = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False).stdout
    (sources,) = re.findall(r"^NATIVE_SOURCES := (.*)$", told, re.MULTILINE)
    assert sources.split() == ["native/CMakeLists.txt"]


@pytest.mark.parametrize("file", PYPROJECTS, ids=lambda file: str(file.parent.name))
def test_python_packages_say_mit(file: Path) -> None:
    project = tomllib.loads(file.read_text())["project"]
    assert project["license"] == "MIT"
    assert all((file.parent / name).is_file() for name in project["license-files"])


@pytest.mark.parametrize("file", PACKAGE_JSONS, ids=lambda file: str(file.parent.name))
def test_node_packages_say_mit(file: Path) -> None:
    assert json.loads(file.read_text())["license"] == "MIT"


def test_every_copy_of_the_licence_is_the_licence() -> None:
    copies = tracked("*LICENSE")
    assert len(copies) > 1
    assert {copy.read_text() for copy in copies} == {(ROOT / "LICENSE").read_text()}


def test_nothing_advises_to_install_what_is_in_no_registry() -> None:
    skipped = (ROOT / "CHANGELOG.md", Path(__file__))
    files = [file for file in tracked() if file.suffix in TEXTS and file not in skipped]
    assert not [file for file in files if NOT_THERE.search(file.read_text())]
