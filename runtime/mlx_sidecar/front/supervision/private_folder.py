"""The engine keeps temporary files in a private folder, which no other user can write.

MLX compiles kernels into ``$TMPDIR/mlx`` and loads files there by a kernel's predictable name, so a user who can write
there runs code in the engine. The folder outlives the process where that is safe, because compiling a kernel takes
0.8 s; elsewhere each process has its own.
"""

from __future__ import annotations

import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_NAME = "mlx-sidecar"
_WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH
_OWN: list[Path] = []  # the folder of this process alone, removed with it: at most one


def private_folder() -> str:
    """The folder's absolute path. Raises OSError if no folder on this machine is safe and can be written."""
    for path in _lasting():
        if _is_ours(path):
            return str(path)
    if not _OWN:
        _OWN.append(_new())
    return str(_OWN[0])


def remove_own_folder() -> None:
    """Delete the folder that ``private_folder`` made for this process alone, if it did."""
    while _OWN:
        shutil.rmtree(_OWN.pop(), ignore_errors=True)


def _lasting() -> Iterator[Path]:
    """Candidates for the user's lasting folder, the best first."""
    cache = os.environ.get("XDG_CACHE_HOME", "")
    with suppress(RuntimeError):  # neither HOME nor an entry in the system's list of users
        home = Path.home()
        caches = home / "Library" / "Caches" if sys.platform == "darwin" else home / ".cache"
        if Path(cache).is_absolute() or home.is_dir():
            yield (Path(cache) if Path(cache).is_absolute() else caches) / _NAME / "tmp"
    for folder in _shared():
        yield folder / f"{_NAME}-{os.geteuid()}"


def _shared() -> Iterator[Path]:
    """Folders that all users share for temporary files."""
    with suppress(OSError):
        yield Path(tempfile.gettempdir()).absolute()
    yield from (Path("/tmp"), Path("/var/tmp"), Path("/dev/shm"))


def _is_ours(path: Path) -> bool:
    """Whether ``path``, made if it is not there, is a folder of ours that no other user can write or replace."""
    try:
        for folder in reversed([path, *path.parents]):
            with suppress(FileExistsError):
                folder.mkdir(mode=0o700)  # said for each: a parent that mkdir makes by itself is left to the umask
        found = path.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & _WRITABLE_BY_OTHERS:
            return False
        if stat.S_IMODE(found.st_mode) != 0o700:
            path.chmod(0o700)
        return _stays(path) and _can_be_written(path)
    except OSError:  # no room, no rights, no such place
        return False


def _stays(path: Path) -> bool:
    """Whether no other user can replace ``path`` or one of its parents."""
    for folder in path.resolve(strict=True).parents:
        found = folder.stat()
        sticky = bool(found.st_mode & stat.S_ISVTX)
        if found.st_uid not in (0, os.geteuid()) or (found.st_mode & _WRITABLE_BY_OTHERS and not sticky):
            return False
    return True


def _can_be_written(path: Path) -> bool:
    with tempfile.TemporaryFile(dir=path) as file:
        return file.write(b"x") == 1


def _new() -> Path:
    for folder in _shared():
        with suppress(OSError):
            made = Path(tempfile.mkdtemp(prefix=f"{_NAME}-", dir=folder))
            if _is_ours(made):
                return made
            made.rmdir()
    raise OSError("there is no folder for temporary files that other users cannot write; set TMPDIR to one")
