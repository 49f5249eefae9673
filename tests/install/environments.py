"""Python environments in which no checkout is in sight, and what an installed mlx-sidecar must do there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path

from tests.clients.node_client import install as install_node_client
from tests.clients.node_client import need_built, node

ROOT = Path(__file__).parents[2]
PATIENCE_S = 1200.0  # far beyond what anything takes: a test that gets here has found a hang
OURS = ("mlx_sidecar", "_mlx_sidecar", "_editable_skbc_mlx_sidecar", "__editable__")

PYTHON_HOST = """
from mlx_sidecar_client import SyncSidecar
from mlx_sidecar_client.protocol.errors import ModelNotFound

with SyncSidecar.spawn() as sidecar:
    stream = sidecar.generate("pocket", messages=[{"role": "user", "content": "What is mlx-sidecar?"}])
    print("".join(delta.text for delta in stream))
    try:
        sidecar.generate("/no/such/model", prompt="Hello").wait()
    except ModelNotFound as error:
        print(error.kind)
"""
NODE_HOST = """
import { Sidecar } from "mlx-sidecar";
const sidecar = await Sidecar.spawn();
const messages = [{ role: "user", content: "What is mlx-sidecar?" }];
for await (const { text } of sidecar.generate({ model: "pocket", messages })) process.stdout.write(text);
await sidecar.close();
"""


def run(*command: str | Path, cwd: Path, **more: str) -> str:
    """The standard output of ``command``, which must succeed. It finds no module of this checkout."""
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "MLX_SIDECAR")}
    done = subprocess.run(
        command,
        cwd=cwd,
        env={**environment, **more},
        capture_output=True,
        encoding="utf-8",
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def make_environment(folder: Path, python: str | Path = sys.executable) -> Path:
    """Make an empty virtual environment in ``folder``, without pip, and return its Python."""
    run(python, "-m", "venv", "--without-pip", folder, cwd=folder.parent)
    return folder / "bin" / "python"


def lend_dependencies(python: Path, folder: Path) -> None:
    """Let ``python`` import all that this interpreter has installed, but nothing of ours.

    pip then takes them for installed, so that it needs no network and still refuses a requirement that is not there.
    ``folder``, a new one, holds links to them.
    """
    folder.mkdir()
    for entry in Path(sysconfig.get_path("purelib")).iterdir():
        if not entry.name.startswith((*OURS, "pip")) and entry.suffix != ".pth" and entry.name != "__pycache__":
            (folder / entry.name).symlink_to(entry)
    site = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder).strip()
    (Path(site) / "lent.pth").write_text(f"{folder}\n")


def pip(python: Path, *arguments: str | Path, cwd: Path) -> str:
    """Run our pip for the environment of ``python``; returns what it prints."""
    ours = (sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check", "--quiet")
    return run(*ours, *arguments, cwd=cwd)


def check_engine(executable: Path, cwd: Path) -> None:
    """``doctor`` and ``generate`` of an installed ``executable`` do what they do in a checkout."""
    facts = run(executable, "doctor", cwd=cwd)
    assert "self-test" in facts
    if sys.platform == "linux":
        assert "via shim" in facts  # the native part is there
    assert run(executable, "generate", "pocket", "What is mlx-sidecar?", "--chat", cwd=cwd).strip()


def check_python_host(python: Path, executable: Path, cwd: Path) -> None:
    """A host on the client installed for ``python`` streams an answer and catches an error by its class."""
    answer, kind = run(python, "-c", PYTHON_HOST, cwd=cwd, MLX_SIDECAR=str(executable)).strip().rsplit("\n", 1)
    assert "engine" in answer
    assert kind == "model_not_found"


def check_node_host(executable: Path, folder: Path) -> None:
    """A host on the npm package, installed in the new ``folder``, streams an answer."""
    interpreter = node()
    need_built()
    folder.mkdir()
    (folder / "package.json").write_text(json.dumps({"private": True, "type": "module"}))
    install_node_client(folder)
    (folder / "host.mjs").write_text(NODE_HOST)
    assert "engine" in run(interpreter, "host.mjs", cwd=folder, MLX_SIDECAR=str(executable))


def build_wheels(folder: Path, pythons: Sequence[str | Path]) -> list[Path]:
    """The files that ``make wheels`` writes into ``folder`` for these Pythons."""
    run(ROOT / "tools" / "wheels.sh", folder, *pythons, cwd=ROOT)
    return sorted(folder.glob("*.whl"))
