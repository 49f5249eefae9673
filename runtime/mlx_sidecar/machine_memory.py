"""Finds how much memory of this machine, or of our cgroup, is for the engine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

# The rest is for the interpreter, the front, the host, and mlx's own cache of freed buffers.
_OURS = 0.8


def machine_limit_bytes() -> int:
    """Four fifths of the memory of this machine, or of our cgroup."""
    return int(_OURS * min([_physical_bytes(), *cgroup_limits_bytes()]))


def granted_bytes(wanted_bytes: int) -> int:
    """``wanted_bytes``, bounded by the machine's memory, and by four fifths of a cgroup's limit if that is less.

    Beyond a cgroup's limit the kernel kills.
    """
    within = [int(_OURS * limit) for limit in cgroup_limits_bytes() if limit < wanted_bytes]
    return min([wanted_bytes, _physical_bytes(), *within])


def _physical_bytes() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def cgroup_limits_bytes(root: Path = Path("/")) -> list[int]:
    """The memory limits that are set on our cgroup and on its ancestors, of which the least counts.

    ``root`` is the root of the file system. Without cgroups (macOS) there are none.
    """
    texts = filter(None, map(_read, _cgroup_files(root)))
    return [int(text) for text in texts if text.isdigit()]  # "max" is no limit


def _cgroup_files(root: Path) -> Iterator[Path]:
    """Files that may hold limits.

    The mount itself is among them, because in a container the path of our cgroup may be the one outside of it, and then
    the mount is the container's cgroup.
    """
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
    """The directory at ``path`` below ``top``, and its parents up to ``top``."""
    names = [name for name in path.split("/") if name not in ("", ".", "..")]
    return (top.joinpath(*names[:depth]) for depth in range(len(names), -1, -1))


def _read(file: Path) -> str | None:
    try:
        return file.read_text().strip()
    except OSError:  # it does not exist, or may not be read
        return None
