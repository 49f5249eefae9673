"""Limits of a grammar hold for the text process that validates it and for the engine that follows answers in it."""

from __future__ import annotations

from typing import Final, TypedDict

# Characters of a grammar. Rules may refer to one another as deep as they fill it, a dozen characters each, and each of
# them takes 4 KiB of the stack of the thread that compiles it.
LONGEST_GRAMMAR: Final = 1 << 19


class CostLimits(TypedDict):
    """The limits of llguidance, by its own names."""

    max_items_in_row: int
    initial_lexer_fuel: int
    step_lexer_fuel: int
    step_max_items: int
    max_lexer_states: int
    max_grammar_size: int


# The library's defaults, but for the states of its lexer, 2 KiB each at most, and the items of an ambiguous grammar at
# one byte, of which 2,000 take a second.
COST_LIMITS: Final[CostLimits] = {
    "max_items_in_row": 1000,
    "initial_lexer_fuel": 1_000_000,  # 20 ms
    "step_lexer_fuel": 200_000,  # 14 ms
    "step_max_items": 50_000,  # 2.5 ms
    "max_lexer_states": 100_000,
    "max_grammar_size": 500_000,
}
