"""Stands in for the sidecar, see mlx_sidecar_conformance/tap.py."""

import json
import os
import sys
from pathlib import Path

from mlx_sidecar_conformance.tap import Tap

if __name__ == "__main__":
    os._exit(Tap(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")), sys.argv[2:]).run())  # whatever reads still
