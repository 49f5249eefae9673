"""Makes JSON Schema 2020-12 definitions of every message from the models and the table of methods.

Titles are on definitions only, so that generated types get one name each. Received models are described as input
(optional members may be null), sent ones as output (optional members are there with a value, or not there).
"""

from __future__ import annotations

import re
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode, JsonSchemaValue, models_json_schema
from pydantic_core import core_schema

from .error_data import DETAILS
from .errors import RpcError
from .model import Received, Sent
from .registry import METHODS, MethodSpec, host_notifications, own_notifications, requests

Schema = dict[str, Any]

_LARGEST_NUMBER = 10**14  # some hosts read larger integers inexactly, also in a schema
_ID: Schema = {"anyOf": [{"type": "string"}, {"type": "number"}]}
_ID_OR_NULL: Schema = {"anyOf": [*_ID["anyOf"], {"type": "null"}]}
_VERSION: Schema = {"const": "2.0"}


class _Generator(GenerateJsonSchema):
    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        if self.mode == "serialization":  # Sent leaves out what has no value
            return self.generate_inner(schema["schema"])
        return super().nullable_schema(schema)

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        generated = super().default_schema(schema)
        if "default" in generated and generated["default"] is None:
            generated.pop("default")
        return generated

    def int_schema(self, schema: core_schema.IntSchema) -> JsonSchemaValue:
        generated = super().int_schema(schema)
        return {key: value for key, value in generated.items() if not _is_large(value)}

    def list_schema(self, schema: core_schema.ListSchema) -> JsonSchemaValue:
        # TypeScript generators turn bounded lists into tuples, to which no array can be assigned. Descriptions hold
        # the bounds.
        generated = super().list_schema(schema)
        return {key: value for key, value in generated.items() if key not in ("minItems", "maxItems")}

    def dict_schema(self, schema: core_schema.DictSchema) -> JsonSchemaValue:
        generated = super().dict_schema(schema)
        if "patternProperties" in generated:  # keys of another form are refused, not ignored
            generated.setdefault("additionalProperties", False)
        return generated


def _is_large(value: Any) -> bool:
    return isinstance(value, int) and abs(value) > _LARGEST_NUMBER


def message_definitions(ref_template: str = "#/$defs/{model}") -> dict[str, Schema]:
    """Definitions of all params and results, by name of their model."""
    models: dict[type[Received] | type[Sent], JsonSchemaMode] = {}
    for spec in METHODS.values():
        for model in (spec.params, spec.result):
            if model is not None:
                models[model] = "serialization" if issubclass(model, Sent) else "validation"
    _, schema = models_json_schema(list(models.items()), ref_template=ref_template, schema_generator=_Generator)
    definitions: dict[str, Schema] = schema["$defs"]
    return definitions


def error_definitions() -> dict[str, Schema]:
    """Definitions of the ``error`` member of a response, one for each kind, by name of their class."""
    return {error.__name__: _error(error) for error in DETAILS}


def _error(error: type[RpcError]) -> Schema:
    details = DETAILS[error].model_json_schema(mode="serialization", schema_generator=_Generator)
    return _object(
        error.__name__,
        {
            "code": {"const": error.code},
            "message": {"type": "string"},
            "data": _object(
                None,
                {
                    "kind": {"const": error.kind},
                    "retryable": {"const": error.retryable},
                    **_inlined(details),
                },
                optional=set(details.get("properties", {})) - set(details.get("required", ())),
            ),
        },
    )


def _inlined(details: Schema) -> Schema:
    """The properties of ``details``, with the one nested model, ``FieldError``, put in place of its reference."""
    properties: Schema = details.get("properties", {})
    for value in properties.values():
        if "$ref" in value.get("items", {}):
            nested = details["$defs"][value["items"]["$ref"].rsplit("/", 1)[1]]
            value["items"] = {key: part for key, part in nested.items() if key != "title"}
    return properties


def envelope_definitions() -> dict[str, Schema]:
    """Definitions of whole frames: one for each method, and the unions of them."""
    asks = {f"{camel(spec.name)}Request": _call(spec, with_id=True) for spec in requests()}
    told = {f"{camel(spec.name)}Notification": _call(spec, with_id=False) for spec in host_notifications()}
    tells = {f"{camel(spec.name)}Notification": _call(spec, with_id=False) for spec in own_notifications()}
    results = dict.fromkeys(spec.result.__name__ for spec in requests() if spec.result is not None)
    return {
        **asks,
        **told,
        **tells,
        "Request": _any_of("Request", asks),
        "Notification": _any_of("Notification", told),
        "ServerNotification": _any_of("ServerNotification", tells),
        "Result": _any_of("Result", results),
        "RpcError": _any_of("RpcError", error_definitions()),
        "SuccessResponse": _object(
            "SuccessResponse", {"jsonrpc": _VERSION, "id": _ID_OR_NULL, "result": _ref("Result")}
        ),
        "ErrorResponse": _object("ErrorResponse", {"jsonrpc": _VERSION, "id": _ID_OR_NULL, "error": _ref("RpcError")}),
        "Batch": _list_of("Batch", "Request", "Notification"),
        "BatchResponse": _list_of("BatchResponse", "SuccessResponse", "ErrorResponse"),
        "AnyIncomingFrame": _any_of("AnyIncomingFrame", ("Request", "Notification", "Batch")),
        "AnyOutgoingFrame": _any_of(
            "AnyOutgoingFrame", ("ServerNotification", "SuccessResponse", "ErrorResponse", "BatchResponse")
        ),
    }


def _needs_members(params: type[BaseModel]) -> bool:
    """Whether ``params`` without members are refused."""
    try:
        params.model_validate({})
    except ValidationError:
        return True
    return False


def _call(spec: MethodSpec, *, with_id: bool) -> Schema:
    name = f"{camel(spec.name)}{'Request' if with_id else 'Notification'}"
    params = _ref(spec.params.__name__)
    needs_params = _needs_members(spec.params)
    properties: Schema = {"jsonrpc": _VERSION, "id": _ID, "method": {"const": spec.name}, "params": params}
    if not with_id:
        del properties["id"]
    if not needs_params:
        properties["params"] = {"anyOf": [params, {"type": "null"}]}
    schema = _object(name, properties, optional=set() if needs_params else {"params"})
    return {**schema, "description": spec.summary}


def _object(title: str | None, properties: Schema, optional: set[str] | None = None) -> Schema:
    schema: Schema = {} if title is None else {"title": title}
    return {
        **schema,
        "type": "object",
        "properties": properties,
        "required": [name for name in properties if name not in (optional or ())],
        "additionalProperties": False,
    }


def _any_of(title: str, names: Any) -> Schema:
    return {"title": title, "anyOf": [_ref(name) for name in names]}


def _list_of(title: str, *names: str) -> Schema:
    return {"title": title, "type": "array", "items": {"anyOf": [_ref(name) for name in names]}}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/$defs/{name}"}


def camel(method: str) -> str:
    """A method in camel case: ``stream/delta`` → ``StreamDelta``, ``$/cancelRequest`` → ``CancelRequest``."""
    return "".join(part[0].upper() + part[1:] for part in re.split(r"[^A-Za-z0-9]+", method) if part)
