"""The plugin's transport against the conformance kit for clients, with the older Neovim."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.clients.neovim.editor import PLUGIN, ROOT, program

PATIENCE_S = 600.0  # for all cases together


def test_every_case_of_the_conformance_kit_passes(tmp_path: Path) -> None:
    done = subprocess.run(
        [
            sys.executable,
            str(ROOT / "clients" / "conformance" / "run.py"),
            *("--sidecar", f"{sys.executable} -m mlx_sidecar"),
            *("--", str(PLUGIN / "conformance.sh")),
        ],
        env={**os.environ, "NVIM": program("system"), "XDG_STATE_HOME": str(tmp_path), "XDG_DATA_HOME": str(tmp_path)},
        cwd=ROOT,
        capture_output=True,
        encoding="utf-8",
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1].endswith(" passed, 0 left out, 0 failed")
