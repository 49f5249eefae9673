"""How many bytes there are, and how many a sequence will take."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from mlx_sidecar_protocol.errors import OutOfMemory

# What the interpreter, the front and the host need beside us; also mlx's own cache of freed buffers.
_OURS = 0.8
# Tokens of the smallest room of a sequence.
LEAST_ROOM = 64
# Tokens that a room for a window has beyond the window: so seldom are its contents moved.
WINDOW_SLACK = 256
# What mlx raises: "[malloc] Unable to allocate N bytes", "[metal::malloc] Attempting to allocate N bytes which is …",
# "cudaMallocAsync(…) failed: out of memory", "Command buffer execution failed: Insufficient Memory".
_ALLOCATION = re.compile(r"malloc.* allocate (\d+) bytes|out of memory|insufficient memory", re.IGNORECASE)


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


def out_of_memory(error: BaseException, free_bytes: int) -> OutOfMemory | None:
    """``error``, or what it came from, as an allocation that failed; None if it is something else.

    ``free_bytes`` are free by our books; the device had less than was asked of it. A wish that is not told counts as 0.
    """
    if isinstance(error, OutOfMemory):
        return error
    wanted = _ALLOCATION.search(str(error))
    if wanted is not None or isinstance(error, MemoryError):
        need_bytes = int(wanted[1] or 0) if wanted is not None else 0
        return OutOfMemory(need_bytes=need_bytes, have_bytes=max(0, min(free_bytes, need_bytes - 1)))
    return None if error.__cause__ is None else out_of_memory(error.__cause__, free_bytes)


def room_for(tokens: int) -> int:
    """Tokens of cache that a sequence of ``tokens`` is given where sequences lie in pools of equal rooms.

    64, 128, 256, 384, 512, 768, 1024 and so on: above 256 at most half as much again.
    """
    room = LEAST_ROOM
    while room < tokens:
        room *= 2
    return room // 4 * 3 if room > 256 and room // 4 * 3 >= tokens else room


@dataclass(frozen=True)
class LayerCost:
    """Cache of one layer: so much once, and so much a token up to ``window`` tokens (0: no window).

    ``pooled``: tokens are rounded up to a room, and a window has some slack.
    """

    fixed_bytes: int = 0
    token_bytes: int = 0
    window: int = 0
    pooled: bool = False

    def bytes_for(self, tokens: int) -> int:
        room, window = tokens, self.window
        if self.pooled:
            room, window = room_for(tokens), window and window + WINDOW_SLACK
        return self.fixed_bytes + self.token_bytes * (min(room, window) if window else room)


@dataclass(frozen=True)
class SequenceCost:
    """Cache of all layers of a model. Layers of one kind are kept as one: it is asked at every step."""

    layers: tuple[LayerCost, ...] = ()

    @classmethod
    def of(cls, layers: Iterable[LayerCost]) -> SequenceCost:
        """What ``layers`` cost together."""
        merged: dict[tuple[int, bool], LayerCost] = {}
        for layer in layers:
            known = merged.get(kind := (layer.window, layer.pooled), LayerCost())
            merged[kind] = LayerCost(
                known.fixed_bytes + layer.fixed_bytes, known.token_bytes + layer.token_bytes, *kind
            )
        return cls(tuple(merged.values()))

    def all_bytes(self, tokens: int) -> int:
        """Bytes of ``tokens`` where a window leaves none of them behind, and nothing is rounded up."""
        return sum(layer.fixed_bytes + layer.token_bytes * tokens for layer in self.layers)

    def bytes_for(self, tokens: int) -> int:
        """Bytes of cache a sequence that has grown to ``tokens`` holds."""
        return sum(layer.bytes_for(tokens) for layer in self.layers)
