"""Whether a file of a model directory may be read: both processes ask before they open one."""

from __future__ import annotations

import stat
from pathlib import Path

from mlx_sidecar_protocol.errors import ModelLoadFailed

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
