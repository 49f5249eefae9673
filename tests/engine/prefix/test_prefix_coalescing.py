"""A sequence waits for another's prefill of the same prompt where that saves time."""

from __future__ import annotations

from array import array

from hypothesis import given
from hypothesis import strategies as st

from mlx_sidecar.engine.prefix.prefix_coalescing import common_prefix

tokens = st.lists(st.integers(0, 2), max_size=40)


@given(tokens, tokens, st.lists(st.integers(0, 9), max_size=1500))
def test_the_common_prefix_is_as_long_as_can_be(one: list[int], other: list[int], shared: list[int]) -> None:
    one, other = shared + one, shared + other
    length = common_prefix(array("i", one), array("i", other))
    assert one[:length] == other[:length]
    assert length in (len(one), len(other)) or one[length] != other[length]
