"""Whether a file of a model directory may be read: both processes ask before they open one."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

from mlx_sidecar_protocol.errors import ModelLoadFailed

from .file_numbers import shown

# What is read whole is bounded. Vocabularies in use are a tenth of this, configurations a hundredth.
FILE_LIMIT_BYTES = 16 * 2**20
INDEX_LIMIT_BYTES = 64 * 2**20
TOKENIZER_LIMIT_BYTES = 256 * 2**20


def is_file(file: Path, limit_bytes: float, name: str) -> bool:
    """Whether ``file`` is there; symbolic links are followed.

    Raises ModelLoadFailed if it is a pipe or a device, whose reader might wait for ever, or above the limit.
    """
    try:
        found = file.stat()
    except OSError:
        return False
    if not stat.S_ISREG(found.st_mode):
        raise ModelLoadFailed(name, because=f"{file.name} is no regular file")
    if found.st_size > limit_bytes:
        raise ModelLoadFailed(name, because=f"{file.name} has {found.st_size} bytes, the limit is {limit_bytes}")
    return True


def read_json(file: Path, limit_bytes: int, name: str) -> dict[str, Any]:
    """The object in ``file``. Raises ModelLoadFailed naming the file that is not there, too large, or none."""
    is_file(file, limit_bytes, name)
    try:
        value = json.loads(file.read_bytes())
    except FileNotFoundError as error:
        raise ModelLoadFailed(name, because=f"there is no {file.name}") from error
    except OSError as error:
        raise ModelLoadFailed(name, because=f"{file.name} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise ModelLoadFailed(name, because=f"{file.name} cannot be read: {shown(str(error))}") from error
    if not isinstance(value, dict):
        raise ModelLoadFailed(name, because=f"{file.name} is no JSON object")
    return value
