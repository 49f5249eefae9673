"""Two checkouts are compared fairly: in turns, with the same requests, by the ratios of the rounds."""

from __future__ import annotations

import asyncio

from benchmarks.against import Pair, compared
from benchmarks.serving.models import Prompts
from benchmarks.serving.sidecar import SERVE, Sidecar


def test_a_figure_is_the_median_of_the_rounds_ratios_of_the_new_to_the_old() -> None:
    row = compared("decoding", "tok/s", [(100.0, 110.0), (50.0, 50.0), (1000.0, 1050.0)], "≥ 0.97×")
    assert row.what == "decoding, new/old"
    assert row.figure == "1.05× (1.00 to 1.10): 110 against 100 tok/s"
    assert row.asked == "≥ 0.97×"


def test_both_are_measured_in_turns_with_the_same_prompts_after_a_turn_that_does_not_count() -> None:
    seen: list[tuple[Sidecar, list[int]]] = []

    async def measure(side: Sidecar, prompts: Prompts) -> tuple[float, ...]:
        seen.append((side, prompts.request(8, 1).tokens))
        return (float(len(seen)), 1.0)

    pair = Pair(SERVE, SERVE, rounds=2)
    figures = [("turn", "", ""), ("one", "s", "≤ 1×")]
    turn, one = asyncio.run(pair.compare("fake", measure, figures, "--engine", "fake"))
    sides, prompts = zip(*seen, strict=True)
    assert sides == (sides[0], sides[1]) * 3
    assert sides[0] is not sides[1]
    assert prompts[::2] == prompts[1::2]
    assert prompts[0] != prompts[2]
    assert turn.figure.startswith("1.27× (1.20 to 1.33): 5 against 4")
    assert (one.what, one.figure, one.asked) == ("one, new/old", "1.00× (1.00 to 1.00): 1 against 1 s", "≤ 1×")
