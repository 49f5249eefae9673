"""Directories that are the embedded model's with some files changed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from mlx_sidecar import pocket


def pocket_with(folder: Path, files: dict[str, str | None] | None = None, **tokenizer: Any) -> Path:
    """A copy of pocket in ``folder``: ``files`` replaced (None: left out), members of tokenizer.json replaced."""
    folder.mkdir(parents=True, exist_ok=True)
    for file in pocket.PATH.iterdir():
        if file.suffix in (".json", ".jinja", ".safetensors"):
            shutil.copy(file, folder)
    if tokenizer:
        described = json.loads((folder / "tokenizer.json").read_text())
        (folder / "tokenizer.json").write_text(json.dumps({**described, **tokenizer}))
    for name, text in (files or {}).items():
        (folder / name).unlink(missing_ok=True)
        if text is not None:
            (folder / name).write_text(text)
    return folder
