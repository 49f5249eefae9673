"""The wheels work where nothing else of ours is, alone and side by side, and say what they are."""

from __future__ import annotations

import email
import os
import subprocess
import sys
import urllib.request
import zipfile
from email.message import Message
from pathlib import Path
from typing import NamedTuple

import pytest
from filelock import FileLock

from tests.install.environments import (
    build_wheels,
    check_engine,
    check_node_host,
    check_python_host,
    lend_dependencies,
    make_environment,
    pip,
    run,
)


class Installed(NamedTuple):
    """A clean environment with both wheels in it, by ``pip install FOLDER/*.whl``."""

    engine: Path
    client: Path
    python: Path

    @property
    def executable(self) -> Path:
        return self.python.with_name("mlx-sidecar")

    @property
    def wheels(self) -> tuple[Path, Path]:
        return self.engine, self.client


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent  # which all workers share
    folder /= "installed"
    with FileLock(folder.with_suffix(".lock")):
        if not (folder / "done").exists():
            _install(folder)
            (folder / "done").touch()
    client, engine = sorted((folder / "dist").iterdir(), key=lambda wheel: "client" not in wheel.name)
    return Installed(engine, client, folder / "environment" / "bin" / "python")


def _install(folder: Path) -> None:
    folder.mkdir()
    wheels = build_wheels(folder / "dist", [".venv/bin/python"])
    python = make_environment(folder / "environment")
    lend_dependencies(python, folder / "lent")
    pip(python, "install", "--no-index", *wheels, cwd=folder)


def names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as content:
        return {name for name in content.namelist() if not name.endswith("/")}


def metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as content:
        (name,) = (name for name in content.namelist() if name.endswith(".dist-info/METADATA"))
        return email.message_from_bytes(content.read(name))


def test_an_installed_sidecar_knows_itself_and_answers(installed: Installed, tmp_path: Path) -> None:
    check_engine(installed.executable, tmp_path)


def test_a_python_host_streams_from_an_installed_sidecar(installed: Installed, tmp_path: Path) -> None:
    check_python_host(installed.python, installed.executable, tmp_path)


def test_an_installed_gateway_loads_its_model_and_has_its_page(installed: Installed, tmp_path: Path) -> None:
    command: list[str | Path] = [
        installed.executable,
        "gateway",
        "--listen",
        "127.0.0.1:0",
        "--engine",
        "fake",
        "--model",
        "fake",
    ]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as gateway:
        assert gateway.stderr is not None
        try:
            url = gateway.stderr.readline().split()[-1]
            assert gateway.stderr.readline() == "ready\n"
            asked = urllib.request.Request(url, headers={"accept": "text/html"})
            with urllib.request.urlopen(asked, timeout=30) as page:
                assert b"<title>mlx-sidecar</title>" in page.read()
        finally:
            gateway.terminate()
    assert gateway.returncode == 0


def test_a_node_host_streams_from_an_installed_sidecar(installed: Installed, tmp_path: Path) -> None:
    check_node_host(installed.executable, tmp_path / "host")


def test_pip_compiles_what_it_installs(installed: Installed) -> None:
    where = "import mlx_sidecar; print(mlx_sidecar.__path__[0])"
    folder = Path(run(installed.python, "-c", where, cwd=installed.python.parent).strip())
    assert next(folder.glob("front/__pycache__/serve.*.pyc"), None)


def test_the_two_distributions_share_no_file_and_need_no_third_of_ours(installed: Installed) -> None:
    engine, client = (names(wheel) for wheel in installed.wheels)
    assert not engine & client
    for wheel in installed.wheels:
        assert not [each for each in metadata(wheel).get_all("Requires-Dist", []) if each.startswith("mlx-sidecar")]


@pytest.mark.parametrize("removed", ["mlx-sidecar", "mlx-sidecar-client"])
def test_removing_one_leaves_the_other_whole(installed: Installed, removed: str, tmp_path: Path) -> None:
    python = make_environment(tmp_path / "environment")
    lend_dependencies(python, tmp_path / "lent")
    pip(python, "install", "--no-index", "--no-compile", *installed.wheels, cwd=tmp_path)
    pip(python, "uninstall", "--yes", removed, cwd=tmp_path)
    if removed == "mlx-sidecar":
        check_python_host(python, installed.executable, tmp_path)
    else:
        assert run(python.with_name("mlx-sidecar"), "generate", "pocket", "Hello", cwd=tmp_path)


def test_wheels_carry_their_licence_and_the_notices_of_what_they_hold(installed: Installed) -> None:
    for wheel in installed.wheels:
        assert metadata(wheel)["License-Expression"] == "MIT"
        assert any(name.endswith("/licenses/LICENSE") for name in names(wheel))
    assert any(name.endswith("/licenses/THIRD-PARTY-NOTICES") for name in names(installed.engine))


def test_wheels_name_the_oldest_systems_they_run_on(installed: Installed) -> None:
    version = f"cp{sys.version_info.major}{sys.version_info.minor}"
    assert f"-{version}-{version}-" in installed.engine.name
    assert installed.client.name.endswith("-py3-none-any.whl")
    assert ("-manylinux_" if sys.platform == "linux" else "-macosx_") in installed.engine.name


def test_nothing_of_a_checkout_is_in_a_wheel_but_its_packages(installed: Installed) -> None:
    packages = {f"mlx_sidecar{part}" for part in ("", "_client", "_gateway", "_native", "_protocol")}
    roots = {name.split("/")[0] for wheel in installed.wheels for name in names(wheel)}
    assert {root for root in roots if not root.endswith((".dist-info", ".data"))} == packages


def test_the_engine_brings_a_page_for_man_of_every_command(installed: Installed) -> None:
    pages = installed.python.parents[1] / "share" / "man" / "man1"
    names = {page.stem for page in pages.iterdir()}
    assert {"mlx-sidecar", "mlx-sidecar-chat", "mlx-sidecar-models-import"} <= names
    assert "\\fB\\-\\-system\\fR" in (pages / "mlx-sidecar-chat.1").read_text()
