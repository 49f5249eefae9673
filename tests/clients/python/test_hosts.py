"""Programs that use the client: those of its README, and one that is killed."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import psutil
import pytest

from tests.support.programs import missing
from tests.support.sidecar import ROOT

from .support import COMMAND, PATIENCE_S

README = (ROOT / "clients" / "python" / "README.md").read_text()
EXAMPLES = re.findall(r"^```python\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


def run(code: str, cwd: Path) -> str:
    if not Path(sys.executable).with_name("mlx-sidecar").exists():
        missing("mlx-sidecar itself, not only its sources,")
    env = {"MLX_SIDECAR": str(Path(sys.executable).with_name("mlx-sidecar")), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=cwd, env=env, capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("number", "said"),
    [(0, "engine"), (1, ""), (2, "["), (3, "ended"), (4, "temperature: Input should be greater than or equal to 0")],
)
def test_the_examples_of_the_readme_do_what_they_say(number: int, said: str, tmp_path: Path) -> None:
    assert said in run(EXAMPLES[number], tmp_path)


def test_the_readme_has_no_other_examples() -> None:
    assert len(EXAMPLES) == 5


def test_a_host_brings_neither_mlx_nor_the_runtime_into_its_process() -> None:
    code = (
        "import sys, json, mlx_sidecar_client; print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))"
    )
    loaded = set(json.loads(subprocess.check_output([sys.executable, "-c", code], text=True)))
    assert not loaded & {"mlx", "mlx_lm", "mlx_sidecar", "mlx_sidecar_native", "numpy", "transformers", "tokenizers"}


HOST = """
import os, sys, anyio
from mlx_sidecar_client import Sidecar

async def main():
    async with Sidecar.spawn(command=sys.argv[1:], options=["--engine", "fake"]) as sidecar:
        async for _ in sidecar.generate("fake?tokens=1000000&delay_ms=1", prompt="Hello"):
            print(await sidecar.process_id(), flush=True)
            break
        await anyio.sleep_forever()

anyio.run(main)
"""


@pytest.mark.parametrize("way", ["kill", "terminate"])
def test_nothing_outlives_a_host_that_is_killed(way: str) -> None:
    with subprocess.Popen([sys.executable, "-c", HOST, *COMMAND], stdout=subprocess.PIPE, text=True, cwd=ROOT) as host:
        assert host.stdout is not None
        front = psutil.Process(int(host.stdout.readline()))
        processes = [front, *front.children()]
        getattr(host, way)()
        _, alive = psutil.wait_procs(processes, PATIENCE_S)
        assert not alive


def test_its_wheel_holds_python_alone_and_is_small(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--quiet"]
    subprocess.run(
        [*command, "--wheel-dir", str(tmp_path), str(ROOT / "clients" / "python")], check=True, capture_output=True
    )
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.name.endswith("-py3-none-any.whl")
    assert wheel.stat().st_size < 120_000
    with zipfile.ZipFile(wheel) as content:
        names = content.namelist()
    assert any(name.endswith("/py.typed") for name in names)
    assert all(name.endswith((".py", "/py.typed")) or ".dist-info/" in name for name in names)
