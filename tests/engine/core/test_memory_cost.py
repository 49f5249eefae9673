"""The arithmetic of a sequence's bytes of cache is right."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mlx_sidecar.engine.core import memory_cost
from mlx_sidecar.engine.core.memory_cost import LayerCost, SequenceCost

layers = st.builds(LayerCost, st.integers(0, 1000), st.integers(0, 1000), st.integers(0, 100), st.booleans())


@given(st.lists(layers), st.integers(0, 1000), st.integers(0, 1000))
def test_a_longer_sequence_never_costs_less(layers: list[LayerCost], some: int, more: int) -> None:
    cost = SequenceCost(tuple(layers))
    assert cost.bytes_for(some) <= cost.bytes_for(some + more)


@given(st.lists(layers), st.integers(0, 1000))
def test_merged_layers_cost_the_same(layers: list[LayerCost], tokens: int) -> None:
    merged = SequenceCost.of(layers)
    assert merged.bytes_for(tokens) == SequenceCost(tuple(layers)).bytes_for(tokens)
    assert len(merged.layers) == len({(layer.window, layer.pooled) for layer in layers})


def test_a_window_bounds_what_a_layer_holds() -> None:
    assert LayerCost(fixed_bytes=5, token_bytes=2, window=10).bytes_for(1000) == 25
    assert LayerCost(fixed_bytes=5, token_bytes=2).bytes_for(1000) == 2005
    assert LayerCost(token_bytes=2, window=10, pooled=True).bytes_for(1000) == 2 * (10 + memory_cost.WINDOW_SLACK)


@given(st.integers(1, 1 << 20))
def test_a_room_is_at_most_half_as_large_again_as_what_is_in_it_unless_it_is_small(tokens: int) -> None:
    room = memory_cost.room_for(tokens)
    assert tokens <= room <= max(256, tokens * 3 // 2)
    assert room <= max(memory_cost.LEAST_ROOM, tokens * 2)
    assert LayerCost(token_bytes=2, pooled=True).bytes_for(tokens) == 2 * room
