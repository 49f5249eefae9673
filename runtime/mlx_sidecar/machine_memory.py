"""How much memory there is for us on this machine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

# What the interpreter, the front and the host need beside us; also mlx's own cache of freed buffers.
_OURS = 0.8


def machine_limit_bytes() -> int:
    """Four fifths of the memory this machine, or the cgroup we run in, has."""
    return int(_OURS * min([_physical_bytes(), *cgroup_limits_bytes()]))


def granted_bytes(wanted_bytes: int) -> int:
    """``wanted_bytes``, or as much of it as there is.

    Where a cgroup has less than that, its share counts: beyond its limit the kernel kills, whatever we were told.
    """
    within = [int(_OURS * limit) for limit in cgroup_limits_bytes() if limit < wanted_bytes]
    return min([wanted_bytes, _physical_bytes(), *within])


def _physical_bytes() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def cgroup_limits_bytes(root: Path = Path("/")) -> list[int]:
    """The memory limits of our cgroup and of those around it, as far as they are set; ``root`` is the file system's.

    A limit binds whatever is below it, so the least counts. Without cgroups (macOS) there are none.
    """
    texts = filter(None, map(_read, _cgroup_files(root)))
    return [int(text) for text in texts if text.isdigit()]  # "max" is no limit


def _cgroup_files(root: Path) -> Iterator[Path]:
    """Where limits may stand. What a container sees of its own path may be that outside of it, where nothing is: the
    mount itself, which is the container's cgroup, is always among them."""
    mount = root / "sys/fs/cgroup"
    v2, v1 = [""], [""]
    for line in (_read(root / "proc/self/cgroup") or "").splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers:
            v2.append(path)
        elif "memory" in controllers.split(","):
            v1.append(path)
    for top, file, paths in (
        (mount, "memory.max", v2),
        (mount / "unified", "memory.max", v2),
        (mount / "memory", "memory.limit_in_bytes", v1),
    ):
        yield from (directory / file for path in paths for directory in _upwards(top, path))


def _upwards(top: Path, path: str) -> Iterator[Path]:
    """The directory that ``path`` names below ``top``, and all above it up to ``top``."""
    names = [name for name in path.split("/") if name not in ("", ".", "..")]
    return (top.joinpath(*names[:depth]) for depth in range(len(names), -1, -1))


def _read(file: Path) -> str | None:
    try:
        return file.read_text().strip()
    except OSError:  # it is not there, or not ours to read
        return None
