"""A folder with a Python of its own works where nothing else is there, wherever it is moved to."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clients.electron_app import lay_out, use
from tests.clients.node_client import need_built, node

ROOT = Path(__file__).parents[2]
NEEDED = pytest.mark.skipif(
    sys.platform != "linux" or "MLX_SIDECAR_TEST_INSTALL" not in os.environ,
    reason="needs Linux and a minute: make test-install",
)
PATIENCE_S = 600.0
HOST = """
import { Sidecar } from "CLIENT";
const sidecar = await Sidecar.spawn({ command: [process.argv[2]] });
const messages = [{ role: "user", content: "What is mlx-sidecar?" }];
for await (const { text } of sidecar.generate({ model: "pocket", messages })) process.stdout.write(text);
await sidecar.close();
"""


def run(*command: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command with this environment alone, in the root of the file system."""
    return subprocess.run(
        command, cwd="/", env=environment, capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )


def files(folder: Path) -> dict[str, int]:
    """The files, with the time of the last change in nanoseconds."""
    return {str(path.relative_to(folder)): path.lstat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder, moved away from where it was made."""
    made = tmp_path_factory.mktemp("made") / "folder"
    done = subprocess.run(
        [sys.executable, ROOT / "tools" / "ship.py", made],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "all: " in done.stdout
    moved = tmp_path_factory.mktemp("an application with spaces") / "side car"
    shutil.move(made, moved)
    before = files(moved)
    yield moved
    assert files(moved) == before, "nothing was ever written into it"
    shutil.rmtree(moved)


@NEEDED
def test_it_answers_with_no_environment_at_all(shipped: Path) -> None:
    done = run(shipped / "bin" / "mlx-sidecar", "generate", "pocket", "What is mlx-sidecar?", "--chat")
    assert "language-model engine" in done.stdout, done.stderr


@NEEDED
def test_a_python_of_the_host_changes_nothing(shipped: Path, tmp_path: Path) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit('the json of the host')")
    environment = {"PYTHONHOME": "/nowhere", "PYTHONPATH": str(tmp_path), "PATH": "/nowhere", "HOME": str(tmp_path)}
    done = run(shipped / "bin" / "mlx-sidecar", "doctor", **environment)
    assert done.returncode == 0, done.stdout
    assert "FAILED" not in done.stdout
    assert "via shim" in done.stdout, "the native part is there"


@NEEDED
def test_a_link_to_it_is_as_good_as_itself(shipped: Path, tmp_path: Path) -> None:
    (tmp_path / "first").symlink_to(shipped / "bin" / "mlx-sidecar")
    (tmp_path / "second").symlink_to("first")
    assert "0.1" in run(tmp_path / "second", "--version", PATH="/usr/bin:/bin").stdout


@NEEDED
def test_the_client_for_node_spawns_it(shipped: Path, tmp_path: Path) -> None:
    need_built()
    client = (ROOT / "clients" / "typescript" / "dist" / "index.js").as_uri()
    (tmp_path / "host.mjs").write_text(HOST.replace("CLIENT", client))
    done = run(node(), tmp_path / "host.mjs", shipped / "bin" / "mlx-sidecar")
    assert "language-model engine" in done.stdout, done.stderr


@NEEDED
def test_the_app_for_electron_finds_it_among_its_resources(shipped: Path, tmp_path: Path) -> None:
    place = lay_out(tmp_path)
    place.symlink_to(shipped)
    [told] = use(place.parent, [("What is mlx-sidecar?", "wait")])
    assert "language-model engine" in told["answer"]


@NEEDED
def test_it_tells_nothing_of_where_it_was_made(shipped: Path) -> None:
    places = [str(ROOT).encode(), sys.base_prefix.encode()]
    texts = (path for path in shipped.rglob("*") if path.suffix in (".py", ".json", ".txt", ".cfg", ".toml", ".pc", ""))
    told = [path for path in texts if path.is_file() and any(place in path.read_bytes() for place in places)]
    assert [path for path in told if path.read_bytes()[:4] != b"\x7fELF"] == []


@NEEDED
def test_what_must_be_signed_is_listed(shipped: Path) -> None:
    told = run(sys.executable, ROOT / "tools" / "ship.py", "--binaries", shipped, **os.environ).stdout.splitlines()
    assert "python/bin/python3" in told
    assert any("mlx_sidecar_native" in line for line in told)


def test_a_folder_that_has_something_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").touch()
    done = run(sys.executable, ROOT / "tools" / "ship.py", tmp_path, **os.environ)
    assert (done.returncode, done.stderr) == (1, f"error: {tmp_path} is not empty\n")
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
