"""Speculation: where proposals come from that the model verifies."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from .model import ModelName, NullIs, Received
from .tagged import Untagged


class Speculation(Received):
    """Sources of proposals. The answer's tokens are those without them."""

    ngram: Annotated[bool, NullIs(True)] = Field(
        default=True, description="propose what followed the latest tokens where they stood before in prompt or answer"
    )
    draft: ModelName | None = Field(default=None, description="a resident model with the same vocabulary: check_draft")
    max_tokens: Annotated[int, Field(ge=1, le=64)] | None = Field(
        default=None, description="most proposals of one pass; without it the engine decides"
    )


def _tag(value: Any) -> str:
    return "off" if value is False else "on"


SpeculationChoice = Annotated[
    Annotated[Speculation, Tag("on")] | Annotated[Literal[False], Tag("off")],
    Discriminator(_tag),
    Untagged("an object or false"),
]
