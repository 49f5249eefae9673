"""The extension for VS Code: its own tests, and the package that is made of it, which they run."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest

from tests.clients.node_client import ROOT, SIDECAR, need_built, node, run
from tests.support.listening_pair import ListeningPair

EXTENSION = ROOT / "clients" / "vscode"
OF_THE_PACKAGE = "extension.test"  # runs what was packaged
ON_PAIRS = ("completer.test", "conversation.test")  # care for no process
TESTS = sorted(path.stem for path in (EXTENSION / "test").glob("*.test.ts"))
PACKED = {
    "LICENSE.txt",
    "changelog.md",
    "dist/THIRD-PARTY-NOTICES",
    "dist/chat.js",
    "dist/extension.cjs",
    "media/chat.css",
    "media/chat.svg",
    "media/completion.png",
    "media/icon.png",
    "media/install.md",
    "package.json",
    "readme.md",
}
LARGEST_PACKAGE_BYTES = 400_000


@pytest.fixture(scope="module", autouse=True)
def built() -> None:
    node()
    need_built()
    bundle = EXTENSION / "dist" / "extension.cjs"
    assert bundle.is_file(), "clients/vscode/dist is missing: make setup-clients"
    sources = [path for folder in ("src", "test") for path in (EXTENSION / folder).rglob("*.ts")]
    assert all(path.stat().st_mtime <= bundle.stat().st_mtime for path in sources), "old: make setup-clients"


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package that an editor would install."""
    return package_into(tmp_path_factory.mktemp("vscode"))


@pytest.mark.parametrize("name", [name for name in TESTS if name != OF_THE_PACKAGE])
def test_its_own_tests_pass(name: str, pairs: ListeningPair) -> None:
    command = pairs.command if name in ON_PAIRS else SIDECAR
    run_tests(name, MLX_SIDECAR_TEST_COMMAND=json.dumps(command))


def test_the_package_does_what_the_extension_does(package: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(package) as archive:
        archive.extractall(tmp_path)
    run_tests(OF_THE_PACKAGE, MLX_SIDECAR_EXTENSION=str(tmp_path / "extension"))


def test_the_package_holds_what_it_needs_and_nothing_else(package: Path) -> None:
    with zipfile.ZipFile(package) as archive:
        names = {name.removeprefix("extension/") for name in archive.namelist() if name.startswith("extension/")}
        notices = archive.read("extension/dist/THIRD-PARTY-NOTICES").decode()
    assert names == PACKED
    assert "markdown-it " in notices
    assert package.stat().st_size < LARGEST_PACKAGE_BYTES


def test_there_are_tests() -> None:
    assert OF_THE_PACKAGE in TESTS
    assert len(TESTS) > 5


def package_into(folder: Path) -> Path:
    """The extension's package, newly made in ``folder`` of what was built."""
    vsix = folder / "mlx-sidecar.vsix"
    options = ["--no-dependencies", "--allow-missing-repository", "--no-rewrite-relative-links"]
    vsce = EXTENSION / "node_modules" / "@vscode" / "vsce" / "vsce"
    run(node(), vsce, "package", *options, "--out", vsix, cwd=EXTENSION)
    return vsix


def run_tests(name: str, **more: str) -> None:
    run(node(), "--test", "--test-timeout", "120000", f"out/test/{name}.js", cwd=EXTENSION, **more)
