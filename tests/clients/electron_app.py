"""The example for Electron, laid out as an application is that was packaged and installed in a path with spaces."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

from tests.clients.node_client import PATIENCE_S, ROOT, install, need_built, node
from tests.support.programs import missing, program

EXAMPLE = ROOT / "examples" / "electron"
STAND_IN = Path(__file__).parent / "electron"
MODULES = ROOT / "tests" / "node"

Told = list[dict[str, str]]


def lay_out(folder: Path) -> Path:
    """Put the application below ``folder``; returns where the sidecar's folder is looked for.

    The client is the package that would be published. A stand-in that opens windows in Chromium has Electron's place.
    """
    need_built()
    if not (MODULES / "node_modules" / "playwright-core").is_dir():
        missing("packages of npm: npm ci --prefix tests/node")
    resources = folder / "An App" / "resources"
    left_out = shutil.ignore_patterns("node_modules", "sidecar")
    shutil.copytree(EXAMPLE, resources / "app", ignore=left_out)
    install(resources)
    electron = resources / "node_modules" / "electron"
    electron.mkdir()
    shutil.copy(STAND_IN / "electron.mjs", electron)
    (electron / "package.json").write_text('{"name": "electron", "exports": {".": "./electron.mjs"}}')
    return resources / "mlx-sidecar"


def use(resources: Path, questions: list[tuple[str, str]], **environment: str) -> Told:
    """Ask, and do then what is said: ``wait``, ``stop``, or ``close``. Returns each answer and its status.

    The environment has nothing but what is given; the search path leads nowhere.
    """
    asked = json.dumps([{"question": question, "then": then} for question, then in questions])
    patience = {"PATIENCE_MS": str(int(PATIENCE_S * 1000)), "CHROMIUM": program("chromium"), "PATH": "/nowhere"}
    done = subprocess.run(
        [node(), STAND_IN / "drive.mjs", resources / "app", asked],
        cwd=MODULES,
        env={**patience, **environment},
        capture_output=True,
        encoding="utf-8",
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    seen: dict[str, Any] = json.loads(done.stdout)
    assert seen["faults"] == [], seen
    told: Told = seen["told"]
    return told
