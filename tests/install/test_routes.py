"""Each way of docs/install.md, from the network's registry into an environment of its own: ``make test-install``.

The checkout is a copy that is gone before anything is tried.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.install.environments import (
    ROOT,
    build_wheels,
    check_engine,
    check_node_host,
    check_python_host,
    make_environment,
    pip,
    run,
)

pytestmark = pytest.mark.skipif(
    "MLX_SIDECAR_TEST_INSTALL" not in os.environ, reason="needs the network and minutes: make test-install"
)
PYTHONS = os.environ.get("PYTHONS", "python3.11 python3.12 python3.13").split()


class Ground(NamedTuple):
    """A folder to install in, a checkout to install from, and the Python to install for."""

    folder: Path
    checkout: Path
    python: str

    def tool(self, name: str) -> Path:
        """``pipx`` or ``uv``, in an environment of its own."""
        python = make_environment(self.folder / name, self.python)
        pip(python, "install", name, cwd=self.folder)
        return python.with_name(name)

    def environment(self) -> Path:
        return make_environment(self.folder / "environment", self.python)


def _pip_checkout(ground: Ground) -> Path:
    python = ground.environment()
    pip(python, "install", ground.checkout, cwd=ground.folder)
    return python.with_name("mlx-sidecar")


def _pip_git(ground: Ground) -> Path:
    python = ground.environment()
    pip(python, "install", f"git+file://{ground.checkout}", cwd=ground.folder)
    return python.with_name("mlx-sidecar")


def _pip_wheels(ground: Ground) -> Path:
    python = ground.environment()
    pip(python, "install", *build_wheels(ground.folder / "dist", [ground.python]), cwd=ground.folder)
    check_python_host(python, python.with_name("mlx-sidecar"), ground.folder)
    return python.with_name("mlx-sidecar")


def _pipx(ground: Ground, source: str | Path) -> Path:
    folders = {"PIPX_HOME": str(ground.folder / "home"), "PIPX_BIN_DIR": str(ground.folder / "bin")}
    folders["PIPX_MAN_DIR"] = str(ground.folder / "man")
    run(ground.tool("pipx"), "install", "--python", ground.python, source, cwd=ground.folder, **folders)
    return ground.folder / "bin" / "mlx-sidecar"


def _pipx_checkout(ground: Ground) -> Path:
    return _pipx(ground, ground.checkout)


def _pipx_git(ground: Ground) -> Path:
    return _pipx(ground, f"git+file://{ground.checkout}")


def _uv(ground: Ground, source: str | Path) -> Path:
    folders = {"UV_TOOL_DIR": str(ground.folder / "tools"), "UV_TOOL_BIN_DIR": str(ground.folder / "bin")}
    command = ["tool", "install", "--compile-bytecode", "--no-python-downloads", "--python", ground.python, source]
    run(ground.tool("uv"), *command, cwd=ground.folder, **folders)
    return ground.folder / "bin" / "mlx-sidecar"


def _uv_checkout(ground: Ground) -> Path:
    return _uv(ground, ground.checkout)


def _uv_git(ground: Ground) -> Path:
    return _uv(ground, f"git+file://{ground.checkout}")


@pytest.fixture
def ground(request: pytest.FixtureRequest, tmp_path: Path) -> Ground:
    python = shutil.which(request.param)
    if python is None or subprocess.run([python, "--version"], capture_output=True, check=False).returncode:
        pytest.skip(f"{request.param} is not installed")
    run("git", "clone", "--quiet", ROOT, tmp_path / "checkout", cwd=tmp_path)
    return Ground(tmp_path, tmp_path / "checkout", python)


# One way for all Pythons, all ways for one Python.
WAYS = [(PYTHONS[0], way) for way in (_pip_checkout, _pip_git, _pipx_checkout, _pipx_git, _uv_checkout, _uv_git)]
WAYS += [(python, _pip_wheels) for python in PYTHONS]


@pytest.mark.parametrize(
    ("ground", "way"), WAYS, ids=[f"{way.__name__[1:]}-{python}" for python, way in WAYS], indirect=["ground"]
)
def test_this_way_gives_a_sidecar_that_works(ground: Ground, way: Callable[[Ground], Path]) -> None:
    executable = way(ground)
    host = _client_alone(ground, from_git="git" in way.__name__)
    shutil.rmtree(ground.checkout)
    check_engine(executable, ground.folder)
    check_python_host(host, executable, ground.folder)
    check_node_host(executable, ground.folder / "node")


def _client_alone(ground: Ground, *, from_git: bool) -> Path:
    """The Python of an environment in which a host has the client and no engine."""
    python = make_environment(ground.folder / "host", ground.python)
    git = f"git+file://{ground.checkout}#subdirectory=clients/python"
    pip(python, "install", git if from_git else ground.checkout / "clients" / "python", cwd=ground.folder)
    named = "import importlib.metadata as m; print(*(each.name for each in m.distributions()))"
    packages = run(python, "-c", named, cwd=ground.folder).split()
    assert [name for name in packages if name.startswith(("mlx", "numpy"))] == ["mlx-sidecar-client"]
    return python
