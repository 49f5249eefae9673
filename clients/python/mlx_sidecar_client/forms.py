"""Forms of answers: a Python type as ``response_format``, and the value that an answer of that form holds."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Generic

from pydantic import TypeAdapter
from typing_extensions import TypeVar  # pydantic brings it; typing's own knows defaults from Python 3.13 on

from .protocol.generate_result import GenerateResult

T = TypeVar("T", default=Any)

_END_OF_REASONING = "</think>"
_VALUES = ("default", "examples", "const", "enum")  # keywords that hold values, not schemas
_JSON = ("json_schema", "json_object")


class IncompleteForm(ValueError):
    """The answer was cut off before it had its whole form, so nothing can be parsed. ``result`` has its text."""

    def __init__(self, result: GenerateResult) -> None:
        super().__init__(f"the answer was cut off before it had its form: finish_reason is {result.finish_reason!r}")
        self.result = result


class Form(Generic[T]):
    """The form of an answer: a type, whose schema the answer has then, or a ``response_format`` as it is sent."""

    def __init__(self, asked: type[T] | Mapping[str, Any] | None) -> None:
        self._type: TypeAdapter[T] | None = None
        self.wire: dict[str, Any] | None = None
        if isinstance(asked, Mapping):
            self.wire = dict(asked)
        elif asked is not None:
            self._type = TypeAdapter(asked)
            self.wire = {"type": "json_schema", "schema": closed(self._type.json_schema())}

    def parsed(self, result: GenerateResult) -> T:
        """The value in ``result``: of the type that was asked for; of other forms what JSON holds, or the text.

        Raises:
            IncompleteForm: The answer does not have its whole form.
            ValidationError: The type asks more of a value than its schema says.
            RuntimeError: No form was asked for.
        """
        if self.wire is None or result.response_format is None or result.text is None:
            raise RuntimeError("there is nothing to parse: no response_format was asked for, or no text came")
        if not result.response_format.complete:
            raise IncompleteForm(result)
        if self._type is not None:
            return self._type.validate_json(_json_of(result.text))
        value: Any = (
            json.loads(_json_of(result.text)) if self.wire.get("type") in _JSON else _behind_reasoning(result.text)
        )
        return value  # type: ignore[no-any-return]  # T is Any where a mapping was given


def closed(schema: Any) -> Any:
    """``schema`` with objects that have no members but those they name, unless it says otherwise itself.

    JSON Schema allows any other member by default. A model would make some up, and the type would drop them.
    """
    if isinstance(schema, list):
        return [closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    inner = {key: part if key in _VALUES else closed(part) for key, part in schema.items()}
    if schema.get("type") == "object" and isinstance(schema.get("properties"), dict):
        inner.setdefault("additionalProperties", False)
    return inner


def _json_of(text: str) -> str:
    """The JSON in ``text``: all of it, or what follows reasoning."""
    try:
        json.loads(text)
    except ValueError:
        return _behind_reasoning(text)
    return text


def _behind_reasoning(text: str) -> str:
    _, marker, behind = text.partition(_END_OF_REASONING)
    return behind.lstrip(" \n") if marker else text
