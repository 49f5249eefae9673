"""Asks llguidance whether it can compile a grammar, within limits that hold for the engine as well."""

from __future__ import annotations

import json
from typing import Any

from ...link.grammar_limits import COST_LIMITS

SPECIAL_TOKEN = "special token"


def multi(*grammars: dict[str, Any]) -> str:
    """One text of several grammars; the first is where the answer begins, and refers to the others by name."""
    return json.dumps({"grammars": grammars}, ensure_ascii=False, allow_nan=False)


def fault_of_grammar(grammar: str) -> str | None:
    """Why ``grammar`` cannot be compiled exactly as it is written; None if it can.

    Where llguidance only warns, something of the grammar would be ignored or left to the tokenizer, so that is a fault.
    """
    from llguidance import LLMatcher, LLParserLimits  # tens of milliseconds, which only requests with a form need

    limits = LLParserLimits(**COST_LIMITS)
    failed, messages = LLMatcher.validate_grammar_with_warnings(grammar, limits=limits)
    if not messages:
        return "it cannot be compiled" if failed else None
    message = str(messages[0])
    return SPECIAL_TOKEN if message.startswith("no tokenizer") else message
