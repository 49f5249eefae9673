"""How many bytes there are, and how many a sequence will take."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

# What the interpreter, the front and the host need beside us; also mlx's own cache of freed buffers.
_OURS = 0.8
# Tokens of the smallest room of a sequence.
LEAST_ROOM = 64
# Tokens that a room for a window has beyond the window: so seldom are its contents moved.
WINDOW_SLACK = 256
_CGROUP_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


def machine_limit_bytes() -> int:
    """Four fifths of the memory this machine, or the cgroup we run in, has."""
    return int(_OURS * min([_physical_bytes(), *_cgroup_bytes(_CGROUP_LIMITS)]))


def _physical_bytes() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _cgroup_bytes(files: Iterable[Path]) -> list[int]:
    """The limits that are set; "max" and absent files are none."""
    texts = [file.read_text().strip() for file in files if file.is_file()]
    return [int(text) for text in texts if text.isdigit()]


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

    def bytes_for(self, tokens: int) -> int:
        """Bytes of cache a sequence that has grown to ``tokens`` holds."""
        return sum(layer.bytes_for(tokens) for layer in self.layers)
