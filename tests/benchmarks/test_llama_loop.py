"""llama.cpp's loop over a context that only counts: every pass is full, and everybody is answered."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest

from benchmarks.llama.library import UBATCH
from benchmarks.llama.loop import Loop, Running


class Counting:
    """The next token of a row is the number of tokens that it has."""

    def __init__(self) -> None:
        self.lengths: dict[int, int] = {}
        self.passes: list[dict[int, int]] = [{}]  # tokens by row

    def put(self, row: int, position: int, tokens: Sequence[int]) -> None:
        assert self.lengths.get(row, 0) == position
        self.lengths[row] = position + len(tokens)
        self.passes[-1][row] = len(tokens)

    def run(self) -> list[int]:
        self.passes.append({})
        return [self.lengths[row] for row in self.passes[-2]]

    def forget(self, row: int) -> None:
        del self.lengths[row]


def test_rows_that_decode_go_first_and_prompts_fill_the_pass(capsys: pytest.CaptureFixture[str]) -> None:
    context = Counting()
    loop = Loop(context, rows=2)
    for number, prompt in ((1, 8), (2, UBATCH + 100), (3, 4)):
        loop.add(Running(number, [7] * prompt, most=3))
    while loop.step():
        pass
    short, long = 0, 1  # the third request gets the row of the first
    assert context.passes[:5] == [
        {short: 8, long: UBATCH - 8},
        {short: 1, long: 108},
        {short: 1, long: 1},
        {short: 4, long: 1},
        {short: 1},
    ]
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {each["id"]: each["tokens"] for each in answers} == {1: [8, 9, 10], 2: [612, 613, 614], 3: [4, 5, 6]}
    assert all(each["times"] == sorted(each["times"]) for each in answers)
    assert context.lengths == {}
