"""Runs the tap in place of the sidecar; see mlx_sidecar_conformance/tap.py."""

import json
import os
import sys
from pathlib import Path

from mlx_sidecar_conformance.tap import Tap

if __name__ == "__main__":
    # Not sys.exit, because a thread may still be reading.
    os._exit(Tap(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")), sys.argv[2:]).run())
