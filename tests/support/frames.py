"""Holds every frame of a conversation against the committed schema."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

SCHEMAS = Path(__file__).parents[2] / "schemas"


@cache
def committed(name: str) -> Any:
    return json.loads((SCHEMAS / name).read_text(encoding="utf-8"))


@cache
def validator(definition: str) -> Draft202012Validator:
    """A validator for one definition of the committed bundle."""
    definitions = committed("mlx-sidecar.schema.json")["$defs"]
    return Draft202012Validator({"$ref": f"#/$defs/{definition}", "$defs": definitions})


def check(definition: str, value: Any) -> None:
    """Raise ``AssertionError`` that says where ``value`` departs from ``definition``."""
    error = next(validator(definition).iter_errors(value), None)
    assert error is None, f"{definition} at {list(error.absolute_path)}: {error.message[:500]}"


def check_outgoing(frame: Any) -> None:
    """Raise ``AssertionError`` unless the sidecar may send ``frame``, whatever was asked."""
    check("AnyOutgoingFrame", frame)


class FrameChecker:
    """Follows one conversation, so that each result is checked as the result of the method that was called."""

    def __init__(self) -> None:
        self._methods: dict[str | int | float, str] = {}
        index = committed("methods.json")["methods"]
        self._index = {entry["name"]: entry for entry in index}

    def sent_by_host(self, frame: Any) -> None:
        """Note a request; a host may send anything, so nothing is checked."""
        for element in frame if isinstance(frame, list) else [frame]:
            if isinstance(element, dict) and isinstance(element.get("id"), str | int | float):
                self._methods[element["id"]] = str(element.get("method"))

    def sent_by_sidecar(self, frame: Any) -> None:
        """Raise ``AssertionError`` unless the frame fits the schema."""
        if isinstance(frame, list):
            assert frame, "an empty batch"
            for element in frame:
                self._check_one(element)
        else:
            self._check_one(frame)

    def _check_one(self, frame: Any) -> None:
        if "error" in frame:
            kind = frame["error"].get("data", {}).get("kind")
            check("ErrorResponse", {**frame, "error": {"code": -32603, "message": "", "data": _INTERNAL}})
            check(_error_class(kind), frame["error"])
        elif "method" in frame:
            check("ServerNotification", {**frame, "params": _ANY_DELTA, "method": "stream/delta"})
            check(self._definition(frame["method"], "params"), frame.get("params"))
        else:
            check("SuccessResponse", {**frame, "result": {}})
            check(self._definition(self._methods[frame["id"]], "result"), frame["result"])

    def _definition(self, method: str, member: str) -> str:
        assert method in self._index, f"{method} is not in methods.json"
        return str(self._index[method][member]["$ref"]).rsplit("/", 1)[1]


_INTERNAL = {"kind": "internal_error", "retryable": False}
_ANY_DELTA = {"stream": 1, "seq": 0, "offset": 0, "text": "", "tokens": []}


def _error_class(kind: str) -> str:
    refs = {entry["kind"]: entry["error"]["$ref"] for entry in committed("methods.json")["errors"]}
    assert kind in refs, f"no error of kind {kind!r}"
    return str(refs[kind]).rsplit("/", 1)[1]
