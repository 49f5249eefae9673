"""Base classes of every message: received ones are checked strictly, sent ones never hold a null by accident.

``Received`` models refuse unknown members and convert nothing (``"8"`` is not 8, ``true`` is not 1) but values that
JSON writers of some languages cannot tell apart (``coercion``). ``Sent`` models leave out optional members without a
value. Validators are built when a model is first used, so that importing the contract stays cheap.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any, LiteralString, TypeVar, cast

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    StringConstraints,
    ValidationError,
    WithJsonSchema,
)
from pydantic_core import CoreSchema, ErrorDetails, InitErrorDetails, PydanticCustomError, core_schema, from_json

from .coercion import as_meant
from .errors import InvalidParams

_MAX_REPORTED_ERRORS = 16  # a list of a million wrong elements must not become an answer of a million errors

Model = TypeVar("Model", bound="Received")


class Received(BaseModel):
    """A message of the host, frozen; unknown members are refused, optional ones may be left out or null."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        allow_inf_nan=False,
        defer_build=True,
        protected_namespaces=(),
        hide_input_in_errors=True,
    )

    @classmethod
    def parse(cls: type[Model], params: object) -> Model:
        """The message in ``params`` from the wire, by name, or by position in the order of the fields.

        ``null``, ``[]`` and ``[null]`` mean "no parameters", as some hosts send it. Raises ``InvalidParams`` with one
        entry for each field at fault.
        """
        if params is None or params == [None]:
            params = {}
        if isinstance(params, list):
            params = cls._by_name(params)
        try:
            return cls.model_validate(params)
        except ValidationError as error:
            meant = as_meant(params, [(entry["type"], entry["loc"]) for entry in _reported(error)])
        try:
            return cls.model_validate(meant)
        except ValidationError as error:
            raise invalid_params(error) from error

    @classmethod
    def _by_name(cls, positional: list[Any]) -> dict[str, Any]:
        if len(positional) > len(cls.model_fields):
            message = f"{len(positional)} parameters by position, at most {len(cls.model_fields)} are known"
            raise InvalidParams([{"loc": [], "msg": message, "type": "too_many_positions"}])
        return dict(zip(cls.model_fields, positional, strict=False))


class Sent(BaseModel):
    """A message of ours, frozen; optional members without a value are not sent, NaN and infinities become null."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        ser_json_inf_nan="null",
        defer_build=True,
        protected_namespaces=(),
    )

    def to_json_bytes(self) -> bytes:
        """UTF-8 JSON, without optional members that have no value."""
        return self.__pydantic_serializer__.to_json(self, exclude_none=True, by_alias=True)

    def to_plain(self) -> dict[str, Any]:
        """The content of ``to_json_bytes`` as a dictionary of JSON values."""
        # model_dump would keep infinities, even in JSON mode.
        plain: dict[str, Any] = from_json(self.to_json_bytes())
        return plain


def invalid_params(error: ValidationError) -> InvalidParams:
    """The wire error for a message that does not fit its model; it does not quote the offending input."""
    return InvalidParams(
        [
            {"loc": [part for part in entry["loc"] if part != "[key]"], "msg": entry["msg"], "type": entry["type"]}
            for entry in _reported(error)
        ]
    )


def _reported(error: ValidationError) -> list[ErrorDetails]:
    return error.errors(include_url=False, include_context=False, include_input=False)[:_MAX_REPORTED_ERRORS]


def refuse_fields(model: type[BaseModel], type_: LiteralString, faults: dict[str, str]) -> ValidationError:
    """An error about several fields, for a model validator to raise; ``faults`` maps field to message."""
    lines = [
        InitErrorDetails(type=PydanticCustomError(type_, "{why}", {"why": why}), loc=(field,), input=None)
        for field, why in faults.items()
    ]
    return ValidationError.from_exception_data(model.__name__, lines, hide_input=True)


@dataclass(frozen=True)
class NullIs:
    """Annotates an optional field whose default is also meant by null."""

    default: Any

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        nullable = core_schema.nullable_schema(handler(source))
        return core_schema.no_info_after_validator_function(self._fill, nullable)

    def _fill(self, value: Any) -> Any:
        return self.default if value is None else value


@dataclass(frozen=True)
class OneError:
    """Annotates a union so that a misfit is one error at the field, not one for each member of the union."""

    type: str
    message: str

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.custom_error_schema(
            handler(source), custom_error_type=self.type, custom_error_message=self.message
        )


@dataclass(frozen=True)
class FirstFault:
    """Annotates a list so that validation ends at its first bad element."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        schema = handler(source)
        if schema["type"] != "list":
            raise TypeError(f"FirstFault goes on a list, not on {schema['type']}")
        return cast(CoreSchema, {**schema, "fail_fast": True})


Label = Annotated[str, StringConstraints(max_length=1024)]
"""A name that the sidecar keeps and sends back, of at most 1024 characters."""

StreamId = Annotated[
    Label | int, OneError("string_or_integer", "must be a string of at most 1024 characters or an integer")
]
"""A name the host picks for a stream."""

ProgressToken = Annotated[
    Label | int, OneError("string_or_integer", "must be a string of at most 1024 characters or an integer")
]
"""A name the host picks for the progress notifications of one request."""

RequestId = Annotated[str | int | float, OneError("string_or_number", "must be a string or a number")]
"""A JSON-RPC id of any length; a float too, because some hosts turn whole numbers into floats."""

Name = Annotated[str, StringConstraints(min_length=1, max_length=4096, pattern=r"^[^\x00]+$")]
"""A path or a revision: not empty, and without NUL, which no file system takes."""


def _no_way_up(name: str) -> str:
    if ".." in name.replace("\\", "/").split("/"):
        raise PydanticCustomError("way_up", "may not lead upwards through ..; a path is absolute, or leads downwards")
    return name


ModelName = Annotated[Name, AfterValidator(_no_way_up)]
"""A model's or adapter's name, or a path without ``..``, so that a composed path stays below its folder."""

TokenId = Annotated[int, Field(ge=0, lt=2**31)]

Seconds = Annotated[float, Field(ge=0)]

Count = Annotated[int, Field(ge=0)]


def null_as(number: float) -> BeforeValidator:
    """Read a null as ``number``, because JSON has no word for it."""
    return BeforeValidator(lambda value: number if value is None else value)


_NUMBER_OR_NULL = WithJsonSchema({"anyOf": [{"type": "number"}, {"type": "null"}]})

Measure = Annotated[float, Field(allow_inf_nan=True), null_as(math.nan), _NUMBER_OR_NULL]
"""A measured number; null if it is infinite or undefined."""

LogProbability = Annotated[float, Field(allow_inf_nan=True), null_as(-math.inf), _NUMBER_OR_NULL]
"""A natural log probability; null is minus infinity."""
