"""How many bytes there are, and how many a sequence will take."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

# What the interpreter, the front and the host need beside us; also mlx's own cache of freed buffers.
_OURS = 0.8
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


@dataclass(frozen=True)
class LayerCost:
    """Cache of one layer: so much once, and so much a token up to ``window`` tokens (0: no window)."""

    fixed_bytes: int = 0
    token_bytes: int = 0
    window: int = 0

    def bytes_for(self, tokens: int) -> int:
        return self.fixed_bytes + self.token_bytes * (min(tokens, self.window) if self.window else tokens)


@dataclass(frozen=True)
class SequenceCost:
    """Cache of all layers of a model. Layers with the same window are kept as one: it is asked at every step."""

    layers: tuple[LayerCost, ...] = ()

    @classmethod
    def of(cls, layers: Iterable[LayerCost]) -> SequenceCost:
        """What ``layers`` cost together."""
        merged: dict[int, LayerCost] = {}
        for layer in layers:
            known = merged.get(layer.window, LayerCost())
            merged[layer.window] = LayerCost(
                known.fixed_bytes + layer.fixed_bytes, known.token_bytes + layer.token_bytes, layer.window
            )
        return cls(tuple(merged.values()))

    def bytes_for(self, tokens: int) -> int:
        """Bytes of cache a sequence that has grown to ``tokens`` holds."""
        return sum(layer.bytes_for(tokens) for layer in self.layers)
