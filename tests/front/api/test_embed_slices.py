"""Texts are handed to a text process in runs, each of which is short, or is one text."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mlx_sidecar.front.api import embed


@given(st.lists(st.integers(0, 90_000), max_size=150), st.integers(0, 70_000))
def test_runs_hold_all_texts_in_order_and_few_characters_unless_one_text_has_more(
    lengths: list[int], beside: int
) -> None:
    texts = ["x" * length for length in lengths]
    runs = [texts[run] for run in embed.slices(texts, beside)]
    assert [text for run in runs for text in run] == texts
    for run in runs:
        assert len(run) == 1 or len(run) <= 64
        assert len(run) == 1 or sum(len(text) + beside for text in run) <= 65_536
