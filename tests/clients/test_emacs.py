"""The package for Emacs: its ERT tests in a real Emacs, its compilation, and its installation as a package."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.listening_pair import ListeningPair
from tests.support.programs import program
from tests.support.sidecar import ROOT

PACKAGE = ROOT / "clients" / "emacs" / "mlx-sidecar.el"
TESTS = Path(__file__).parent / "emacs" / "mlx-sidecar-test.el"
PATIENCE_S = 300.0  # far beyond what anything takes: a test that gets here has found a hang


def emacs(home: Path, *words: str, **environment: str) -> str:
    """The output of an Emacs without a user's settings, after a check that it succeeded."""
    done = subprocess.run(
        [program("emacs"), "-Q", "--batch", *words],
        env={**os.environ, "HOME": str(home), **environment},
        cwd=home,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_its_own_tests_pass(tmp_path: Path, pairs: ListeningPair) -> None:
    command = json.dumps(pairs.command)
    words = ["-L", str(PACKAGE.parent), "-l", str(TESTS), "-f", "ert-run-tests-batch-and-exit"]
    said = emacs(tmp_path, *words, MLX_SIDECAR_TEST_COMMAND=command)
    tests = TESTS.read_text(encoding="utf-8").count("(ert-deftest ")
    assert re.search(rf"Ran {tests} tests, {tests} results as expected", said), said


def test_it_compiles_without_a_warning_and_its_documentation_is_in_order(tmp_path: Path) -> None:
    shutil.copy(PACKAGE, tmp_path)
    compiled = ["--eval", "(setq byte-compile-error-on-warn t)", "-f", "batch-byte-compile", PACKAGE.name]
    emacs(tmp_path, *compiled)
    assert (tmp_path / "mlx-sidecar.elc").is_file()
    name = json.dumps(PACKAGE.name)
    # Its guess at verbs takes "goes" in any sentence for one that should begin it.
    check = f"(progn (require 'checkdoc) (setq checkdoc-verb-check-experimental-flag nil) (checkdoc-file {name}))"
    assert emacs(tmp_path, "--eval", check) == ""


def test_it_installs_as_a_package_whose_commands_are_there_before_it_is_loaded(tmp_path: Path) -> None:
    folder = f'(setq package-user-dir "{tmp_path}/elpa")'
    emacs(tmp_path, "--eval", f'(progn (require \'package) {folder} (package-install-file "{PACKAGE}"))')
    seen = "(progn (package-initialize) (princ (list (featurep 'mlx-sidecar) (commandp 'mlx-sidecar-chat))))"
    said = emacs(tmp_path, "--eval", f"(progn (require 'package) {folder})", "--eval", seen)
    assert said == "(nil t)"


@pytest.mark.parametrize("name", ["mlx-sidecar-chat", "mlx-sidecar-complete", "mlx-sidecar-load"])
def test_the_readme_has_each_command_and_each_option(name: str) -> None:
    page = (PACKAGE.parent / "README.md").read_text(encoding="utf-8")
    assert f"`{name}`" in page
    for option in re.findall(r"\(defcustom (\S+)", PACKAGE.read_text(encoding="utf-8")):
        assert f"`{option}`" in page
