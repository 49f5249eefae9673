"""Forms of an answer: what ``response_format`` of ``generate`` may ask for."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, StringConstraints, model_validator

from .model import FirstFault, Label, NullIs, Received, refuse_fields
from .tagged import Untagged

GRAMMAR_CHARACTERS = 2**18
PATTERN_CHARACTERS = 2**16
CHOICES = 1024

Whitespace = Literal["fixed", "flexible"]
_WHITESPACE = (
    "fixed: one space behind commas and colons, and no other between values; flexible: up to 8 white spaces wherever"
    " JSON has them"
)


class TextFormat(Received):
    """Any text, as without ``response_format``."""

    type: Literal["text"]


class JsonObjectFormat(Received):
    """Any JSON object."""

    type: Literal["json_object"]
    whitespace: Annotated[Whitespace, NullIs("flexible")] = Field(default="flexible", description=_WHITESPACE)


class NamedSchema(Received):
    """A schema as OpenAI's interface nests it. Name and description are for the host alone."""

    name: Label | None = None
    description: str | None = None
    schema_: dict[str, Any] = Field(alias="schema")
    strict: Annotated[Literal[True], NullIs(True)] = Field(
        default=True, description="an answer always follows its schema, so that false is refused"
    )


class JsonSchemaFormat(Received):
    """JSON that is valid under a schema, with its members in the schema's order.

    The schema stands in ``schema``, or in ``json_schema``.
    """

    type: Literal["json_schema"]
    schema_: dict[str, Any] | None = Field(default=None, alias="schema")
    json_schema: NamedSchema | None = None
    whitespace: Annotated[Whitespace, NullIs("fixed")] = Field(default="fixed", description=_WHITESPACE)

    @property
    def the_schema(self) -> dict[str, Any]:
        """The schema, wherever it stands."""
        if self.json_schema is not None:
            return self.json_schema.schema_
        assert self.schema_ is not None
        return self.schema_

    @property
    def place(self) -> str:
        """The path of the schema in the host's request."""
        return "response_format.schema" if self.json_schema is None else "response_format.json_schema.schema"

    @model_validator(mode="after")
    def _one_schema(self) -> Self:
        if (self.schema_ is None) == (self.json_schema is None):
            raise refuse_fields(type(self), "fields_disagree", {"schema": "one of schema and json_schema is needed"})
        return self


class RegexFormat(Received):
    """Text that a regular expression matches as a whole. It has the syntax of Rust's ``regex``."""

    type: Literal["regex"]
    pattern: Annotated[str, StringConstraints(min_length=1, max_length=PATTERN_CHARACTERS)] = Field(
        description="matches the whole answer; without look-around and back references"
    )


class ChoiceFormat(Received):
    """One of several texts."""

    type: Literal["choice"]
    choices: Annotated[
        list[Annotated[str, StringConstraints(min_length=1, max_length=4096)]],
        Field(min_length=1, max_length=CHOICES),
        FirstFault(),
    ] = Field(description=f"at most {CHOICES}")


class GrammarFormat(Received):
    """Text of a context-free grammar: ``lark`` in llguidance's dialect, or ``gbnf``, that of llama.cpp."""

    type: Literal["grammar"]
    syntax: Literal["lark", "gbnf"]
    grammar: Annotated[str, StringConstraints(min_length=1, max_length=GRAMMAR_CHARACTERS)]


Form = TextFormat | JsonObjectFormat | JsonSchemaFormat | RegexFormat | ChoiceFormat | GrammarFormat

ResponseFormat = Annotated[
    Form,
    Discriminator("type"),
    Untagged("an object with a type", "type", "text, json_object, json_schema, regex, choice or grammar"),
]
