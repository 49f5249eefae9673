"""Computes how many bytes of cache a sequence takes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ..cache.segment import BLOCK

# Tokens of the smallest room of a sequence.
LEAST_ROOM = 64
# Tokens that a room for a window has beyond the window: so seldom are its contents moved.
WINDOW_SLACK = 256


def room_for(tokens: int) -> int:
    """Return the tokens of cache that a sequence of ``tokens`` is given in a pool of equal rooms.

    64, 128, 256, 384, 512, 768, 1024 and so on: above 256 at most half as much again.
    """
    room = LEAST_ROOM
    while room < tokens:
        room *= 2
    return room // 4 * 3 if room > 256 and room // 4 * 3 >= tokens else room


@dataclass(frozen=True)
class LayerCost:
    """Cache of one layer: so much once, and so much a token up to ``window`` tokens (0: no window).

    ``pooled``: tokens are rounded up to a room, and a window has some slack. ``in_blocks``: tokens are rounded up to
    whole blocks, which a window's ends cut.
    """

    fixed_bytes: int = 0
    token_bytes: int = 0
    window: int = 0
    pooled: bool = False
    in_blocks: bool = False

    def bytes_for(self, tokens: int) -> int:
        room, window = tokens, self.window
        if self.pooled:
            room, window = room_for(tokens), window and window + WINDOW_SLACK
        elif self.in_blocks:
            room, window = -(-tokens // BLOCK) * BLOCK, window and window + 2 * BLOCK
        return self.fixed_bytes + self.token_bytes * (min(room, window) if window else room)


@dataclass(frozen=True)
class SequenceCost:
    """Cache of all layers of a model. Layers of one kind are kept as one: it is asked at every step."""

    layers: tuple[LayerCost, ...] = ()

    @classmethod
    def of(cls, layers: Iterable[LayerCost]) -> SequenceCost:
        """Return the cost of ``layers`` together."""
        merged: dict[tuple[int, bool, bool], LayerCost] = {}
        for layer in layers:
            known = merged.get(kind := (layer.window, layer.pooled, layer.in_blocks), LayerCost())
            merged[kind] = LayerCost(
                known.fixed_bytes + layer.fixed_bytes, known.token_bytes + layer.token_bytes, *kind
            )
        return cls(tuple(merged.values()))

    def all_bytes(self, tokens: int) -> int:
        """Return the bytes of ``tokens`` if a window dropped none of them and nothing were rounded up."""
        return sum(layer.fixed_bytes + layer.token_bytes * tokens for layer in self.layers)

    def bytes_for(self, tokens: int) -> int:
        """Return the bytes of cache that a sequence of ``tokens`` holds."""
        return sum(layer.bytes_for(tokens) for layer in self.layers)
