"""Makes the OpenRPC document, the answer to ``rpc.discover``, from the table of methods."""

from __future__ import annotations

from collections import defaultdict
from functools import cache
from typing import Any

from .definitions import message_definitions
from .registry import METHODS, MethodSpec, own_notifications

_REF = "#/components/schemas/{model}"


@cache
def document(version: str) -> dict[str, Any]:
    """The document for ``version`` of the software, cached and not to be changed; the first call takes 40 ms."""
    definitions = message_definitions(_REF)
    return {
        "openrpc": "1.3.2",
        "info": {
            "title": "mlx-sidecar",
            "version": version,
            "description": "A language-model engine behind JSON-RPC 2.0 on standard input and output.",
        },
        "methods": [_method(spec, definitions) for spec in METHODS.values() if spec.direction == "host-to-sidecar"],
        "components": {"schemas": definitions},
        "x-notifications": [_notification(spec) for spec in own_notifications()],
    }


def _method(spec: MethodSpec, definitions: dict[str, Any]) -> dict[str, Any]:
    described: dict[str, Any] = {
        "name": spec.name,
        "summary": spec.summary,
        "paramStructure": "either",
        "params": _params(definitions[spec.params.__name__]),
        "x-since": spec.since,
    }
    if spec.result is not None:  # without a result a method is a notification
        described["result"] = {"name": spec.result.__name__, "schema": _ref(spec.result.__name__)}
        described["errors"] = _errors(spec)
    return described


def _params(schema: dict[str, Any]) -> list[dict[str, Any]]:
    required = schema.get("required", ())
    return [
        {"name": name, "required": name in required, "schema": property_}
        for name, property_ in schema.get("properties", {}).items()
    ]


def _errors(spec: MethodSpec) -> list[dict[str, Any]]:
    """One entry for each code, as OpenRPC demands, with the kinds that share it in ``data``."""
    kinds: defaultdict[int, list[str]] = defaultdict(list)
    for error in spec.errors:
        kinds[error.code].append(error.kind)
    return [{"code": code, "message": " or ".join(names), "data": {"kinds": names}} for code, names in kinds.items()]


def _notification(spec: MethodSpec) -> dict[str, Any]:
    return {
        "name": spec.name,
        "summary": spec.summary,
        "params": _ref(spec.params.__name__),
        "x-since": spec.since,
    }


def _ref(name: str) -> dict[str, str]:
    return {"$ref": _REF.format(model=name)}
