"""The word tables beside this file."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any


def read(name: str) -> dict[str, Any]:
    """The table `name.toml`."""
    return tomllib.loads((Path(__file__).parent / f"{name}.toml").read_text("utf-8"))
