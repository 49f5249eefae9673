"""Unions whose members are told apart by one value, and whose errors name the field without the member's tag."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydantic import GetCoreSchemaHandler, ValidationError
from pydantic_core import CoreSchema, InitErrorDetails, PydanticCustomError, core_schema

_TAG_ERRORS = ("union_tag_invalid", "union_tag_not_found")


@dataclass(frozen=True)
class Untagged:
    """Annotates a tagged union so that the path of an error is the path in the host's message.

    ``kind`` says what the value must be. ``tags`` are those of its member ``tag``, in words; both are "" where the
    value itself tells the members of the union apart.
    """

    kind: str
    tag: str = ""
    tags: str = ""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_wrap_validator_function(self._validated, handler(source))

    def _validated(self, value: Any, validate: Callable[[Any], Any]) -> Any:
        try:
            return validate(value)
        except ValidationError as error:
            lines = [self._line(entry) for entry in error.errors(include_url=False, include_context=False)]
            raise ValidationError.from_exception_data(error.title, lines, hide_input=True) from None

    def _line(self, entry: Any) -> InitErrorDetails:
        type_, why, loc = entry["type"], entry["msg"], entry["loc"][1:]
        if type_ in _TAG_ERRORS and isinstance(entry["input"], dict):
            why, loc = f"must be {self.tags}", (self.tag,)
        elif not loc:
            why = f"must be {self.kind}"
        return InitErrorDetails(type=PydanticCustomError(type_, "{why}", {"why": why}), loc=loc, input=None)
