"""Helpers that the tests of the TypeScript client and of its examples share: Node, the built package, the sidecar."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.programs import program

ROOT = Path(__file__).parents[2]
CLIENT = ROOT / "clients" / "typescript"
SIDECAR = [sys.executable, "-m", "mlx_sidecar"]
OLDEST_NODE = 20
PATIENCE_S = 300.0  # far beyond what anything takes: a test that gets here has found a hang


def node() -> str:
    """Node as the client needs it."""
    found = program("node")
    version = subprocess.run([found, "--version"], capture_output=True, encoding="utf-8", check=True).stdout
    if int(version.lstrip("v").split(".")[0]) < OLDEST_NODE:
        assert "CI" not in os.environ, f"CI needs Node {OLDEST_NODE}"
        pytest.skip(f"Node {version.strip()} is older than {OLDEST_NODE}")
    return found


def environment(**more: str) -> dict[str, str]:
    """Ours, in which a sidecar that is started runs the sources of this checkout."""
    sources = os.pathsep.join([str(ROOT / "runtime"), str(ROOT / "protocol"), os.environ.get("PYTHONPATH", "")])
    return {**os.environ, "PYTHONPATH": sources, "MLX_SIDECAR_TEST_COMMAND": json.dumps(SIDECAR), **more}


def run(*command: str | Path, cwd: Path, **more: str) -> str:
    """Its output, after a check that it succeeded."""
    done = subprocess.run(
        command,
        cwd=cwd,
        env=environment(**more),
        capture_output=True,
        encoding="utf-8",
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def need_built() -> None:
    """Skip where the client was not built. Tests share it and run at the same time, so none of them builds it."""
    if not (CLIENT / "dist" / "index.js").is_file():
        assert "CI" not in os.environ, "CI needs clients/typescript/dist"
        pytest.skip("clients/typescript/dist is missing: make setup-clients")
    built = (CLIENT / "dist" / "index.js").stat().st_mtime
    assert all(source.stat().st_mtime <= built for source in (CLIENT / "src").iterdir()), "old: make setup-clients"


def install(directory: Path) -> None:
    """Install the client in ``directory``, from the package that would be published, without any registry."""
    npm = program("npm")
    tarball = run(npm, "pack", "--ignore-scripts", "--silent", "--pack-destination", directory, cwd=CLIENT).split()[-1]
    run(npm, "install", "--offline", "--no-audit", "--no-fund", "--no-save", directory / tarball, cwd=directory)


def executable(directory: Path) -> Path:
    """An ``mlx-sidecar`` that runs the sources of this checkout, and leaves in ``asked`` what it was asked."""
    script = directory / "mlx-sidecar"
    script.write_text(f'#!/bin/sh\ntee {directory / "asked"} | {" ".join(SIDECAR)} "$@"\n')
    script.chmod(0o755)
    return script
