"""Export files, named by a host: a whole conversation in each, to be used elsewhere."""

from __future__ import annotations

import stat
from array import array
from pathlib import Path

from ..segment import Segment
from .events import Exported, Imported
from .format import Reader, pack, write_file
from .header import Damaged, Foreign

# mlx raises RuntimeError where it has no memory for an array, and various errors for shapes beyond its integers.
UNREADABLE = (Damaged, Foreign, ArithmeticError, MemoryError, RuntimeError, ValueError)


def exported(key: int, path: Path, identity: str, segment: Segment, tokens: array[int]) -> Exported:
    """Write ``segment``, which is of ``tokens``, to ``path``; a regular file is replaced, anything else is not."""
    try:
        _check_target(path)
        packed = pack(identity, None, segment, tokens)
        write_file(path, packed)
    except OSError as error:
        return Exported(key, path, 0, error.strerror or str(error))
    except UNREADABLE as error:
        return Exported(key, path, 0, str(error) or "there is no memory for it")
    return Exported(key, path, packed.header.nbytes)


def _check_target(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISREG(mode):
        raise Foreign("what is there is no regular file")


def imported(key: int, path: Path, identity: str, limit_bytes: float) -> Imported:
    """Read ``path``, if ``identity`` computed it from the first token on and it has at most ``limit_bytes``."""
    try:
        header, segment = Reader().read_whole(path, identity, limit_bytes)
    except OSError as error:
        return Imported(key, path, array("i"), None, because=error.strerror or str(error))
    except UNREADABLE as error:
        return Imported(key, path, array("i"), None, because=str(error) or "there is no memory for it")
    return Imported(key, path, header.tokens, segment, header.nbytes)
