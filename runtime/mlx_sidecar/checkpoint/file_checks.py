"""Checks whether a file of a model directory may be read, before it is opened."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

from mlx_sidecar_protocol.errors import ModelLoadFailed

from .file_numbers import shown

# For files that are read whole. Vocabularies in use have a tenth of this, configurations a hundredth.
FILE_LIMIT_BYTES = 16 * 2**20
INDEX_LIMIT_BYTES = 64 * 2**20
TOKENIZER_LIMIT_BYTES = 256 * 2**20


def is_file(file: Path, limit_bytes: float, name: str) -> bool:
    """Whether ``file`` exists; symbolic links are followed.

    Raises ModelLoadFailed if it is larger than the limit, or a pipe or device, whose reader might wait for ever.
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
    """The JSON object in ``file``. Raises ModelLoadFailed if the file is missing, too large, or holds no object."""
    value = _value(file, limit_bytes, name)
    if not isinstance(value, dict):
        raise ModelLoadFailed(name, because=f"{file.name} is no JSON object")
    return value


def read_json_list(file: Path, limit_bytes: int, name: str) -> list[Any]:
    """The JSON array in ``file``. Raises as ``read_json``."""
    value = _value(file, limit_bytes, name)
    if not isinstance(value, list):
        raise ModelLoadFailed(name, because=f"{file.name} is no JSON array")
    return value


def _value(file: Path, limit_bytes: int, name: str) -> Any:
    is_file(file, limit_bytes, name)
    try:
        return json.loads(file.read_bytes())
    except FileNotFoundError as error:
        raise ModelLoadFailed(name, because=f"there is no {file.name}") from error
    except OSError as error:
        raise ModelLoadFailed(name, because=f"{file.name} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise ModelLoadFailed(name, because=f"{file.name} cannot be read: {shown(str(error))}") from error
