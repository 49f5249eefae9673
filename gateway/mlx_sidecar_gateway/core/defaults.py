"""Parameters that the gateway's owner has set for answers whose requests do not name them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ..surfaces.surface import Generation, Question

NAMES: Final = (
    "frequency_penalty",
    "max_tokens",
    "min_p",
    "presence_penalty",
    "repetition_penalty",
    "seed",
    "stop",
    "temperature",
    "top_k",
    "top_p",
)
"""The parameters that may have such a default."""


def unsaid(question: Question, generation: Generation) -> dict[str, Any]:
    """Those of the question's defaults that its request says nothing of, under any of its own names for them."""
    return {
        name: value
        for name, value in question.defaults.items()
        if not says(question.body, generation.names.get(name, name).split("."))
    }


def says(body: Mapping[str, Any], path: list[str]) -> bool:
    """Whether a request has a member at ``path``."""
    value: Any = body
    for step in path:
        value = value.get(step) if isinstance(value, Mapping) else None
    return value is not None
