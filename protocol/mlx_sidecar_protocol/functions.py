"""Python functions as tools: the description that a model reads, and calls with checked arguments."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from inspect import Parameter
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model
from pydantic.errors import PydanticUserError
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import to_json

_NAME = re.compile(r"[\w.:/-]{1,256}")


class Tool:
    """A function that a model may call. Its docstring is its description, and each parameter has a type.

    ``strict``: the engine keeps the arguments of its calls to the types. Raises ``TypeError``, with the parameter's
    name, for a function that cannot be described.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        name: str | None = None,
        description: str | None = None,
        strict: bool = False,
    ) -> None:
        self.function = function
        self.name = name or str(getattr(function, "__name__", ""))
        if not _NAME.fullmatch(self.name):
            raise TypeError(f"{function!r} has no name that a tool can have")
        self.description = description or inspect.getdoc(function) or ""
        self.strict = strict
        self._arguments, self._schema = _arguments_of(function, self.name)

    def to_plain(self) -> dict[str, Any]:
        """The tool as an element of ``tools``."""
        described = {"name": self.name, "description": self.description, "parameters": self._schema}
        return {"type": "function", "function": {**described, "strict": True} if self.strict else described}

    def bind(self, arguments: str) -> dict[str, Any]:
        """Keyword arguments of the function from the JSON text of a call; those left out have their defaults.

        Raises ``ValueError``, with the parameter's name, for arguments that are not of the types.
        """
        try:
            checked = self._arguments.model_validate_json(arguments)
        except ValidationError as error:
            faults = error.errors(include_url=False, include_context=False, include_input=False)
            raise ValueError("; ".join(_told(fault["loc"], fault["msg"]) for fault in faults)) from None
        fields = type(checked).model_fields
        return {str(fields[name].alias): getattr(checked, name) for name in fields if name in checked.model_fields_set}


def content_of(value: object) -> str:
    """The content of the message that tells a model what a call returned: a text as it is, all else as JSON."""
    return value if isinstance(value, str) else to_json(value).decode()


def content_of_failure(error: Exception) -> str:
    """The content of the message that tells a model that a call failed, and why."""
    return f"error: {type(error).__name__}: {error}"


class _Untitled(GenerateJsonSchema):
    """Schemas in which parameters have no titles, which would only repeat their names."""

    ignored_warning_kinds = {"skipped-choice", "non-serializable-default"}  # noqa: RUF012  # as its base declares it

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def _arguments_of(function: Callable[..., Any], name: str) -> tuple[type[BaseModel], dict[str, Any]]:
    """The model of a function's arguments, and its schema."""
    # Fields are named by number, because a parameter may have a name that a field cannot have, such as ``copy``.
    try:
        parameters = inspect.signature(function, eval_str=True).parameters.values()
    except NameError as error:
        raise TypeError(f"{name}: a type cannot be found when the program runs: {error}") from error
    fields: Any = {f"p{number}": _field(name, parameter) for number, parameter in enumerate(parameters)}
    try:
        model: type[BaseModel] = create_model(name, __config__=ConfigDict(extra="forbid"), **fields)
        schema = model.model_json_schema(schema_generator=_Untitled)
    except PydanticUserError as error:
        raise TypeError(f"{name}: a parameter's type has no JSON Schema: {error.message.splitlines()[0]}") from error
    schema.pop("title", None)
    return model, schema


def _field(name: str, parameter: Parameter) -> tuple[Any, Any]:
    if parameter.kind not in (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY):
        raise TypeError(f"{name}: parameter {parameter} cannot be given by name")
    if parameter.annotation is Parameter.empty:
        raise TypeError(f"{name}: parameter {parameter.name} has no type")
    default = ... if parameter.default is Parameter.empty else parameter.default
    return parameter.annotation, Field(default, alias=parameter.name)


def _told(path: tuple[int | str, ...], message: str) -> str:
    return f"{'.'.join(map(str, path))}: {message}" if path else message
