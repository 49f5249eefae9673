"""The answers that are due for the bytes of a host, by the rules of JSON-RPC and docs/protocol.md.

Written from those pages alone, without the sidecar's own parser or models.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from functools import reduce
from operator import getitem
from typing import Any

from jsonschema import ValidationError

from tests.support.frames import committed, validator

METHODS = {entry["name"]: entry for entry in committed("methods.json")["methods"]}
# Answered as they are read; any other request is open for a while, and its id is taken.
QUICK = {
    *("initialize", "initialized", "ping", "exit", "$/cancelRequest", "rpc.discover"),
    *("stream/cancel", "stream/subscribe", "stream/ack"),
    *("session/fork", "session/rollback", "session/get", "session/close"),
}
NESTING_LIMIT = 128


class Written(float):
    """A float that remembers its digits: ids come back as they were written."""

    text: str

    def __new__(cls, text: str) -> Written:
        self = super().__new__(cls, text)
        self.text = text
        return self


def loads(text: bytes | str) -> Any:
    """Parse JSON. Raises ValueError for anything else, NaN and infinities among it."""
    return json.loads(text, parse_float=Written, parse_constant=_refuse)


def _refuse(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def id_text(id_: Any) -> str:
    """Return an id as it was written: 1, 1.0 and "1" are three."""
    return id_.text if isinstance(id_, Written) else json.dumps(id_)


@dataclass(eq=False)
class Asked:
    """One answer that must come.

    ``kinds``: the request can only be refused, with one of these. ``params`` are by name; None if they do not fit the
    schema. ``sure``: the parameters are good. ``at``: its place among all messages of the host.
    """

    id: Any
    method: str = ""
    params: dict[str, Any] | None = None
    kinds: frozenset[str] | None = None
    sure: bool = False
    at: int = 0
    failed: str | None = None  # the kind of its error
    answered: bool = False

    @property
    def quick(self) -> bool:
        return self.kinds is not None or self.method in QUICK

    def __str__(self) -> str:
        return f"{self.method or 'no request'} {id_text(self.id)[:40]}"


@dataclass(eq=False)
class Told:
    """A notification, which is never answered."""

    method: str
    params: dict[str, Any] | None
    at: int = 0


@dataclass(eq=False)
class Array:
    """A batch with answers: one array, in the order of the requests."""

    slots: list[Asked]

    def __str__(self) -> str:
        return f"a batch of {', '.join(map(str, self.slots))}"


Message = Asked | Told


def read(text: bytes, batch_limit: int, frame_limit_bytes: int) -> tuple[Asked | Array | None, list[Message]]:
    """Return the answers that are due for one frame, and the messages in it, in order."""
    if len(text) > frame_limit_bytes:
        return _only(refused(None, "frame_too_large"))
    try:
        value = loads(text)
    except (ValueError, RecursionError):
        return _only(refused(None, "parse_error", "nesting_too_deep"))
    if _is_deeper(value, NESTING_LIMIT):
        return _only(refused(None, "nesting_too_deep"))
    if isinstance(value, list):
        return _batch(value, batch_limit)
    message = _message(value)
    return (message if isinstance(message, Asked) else None), [message] if message else []


def refused(id_: Any, *kinds: str) -> Asked:
    """Make an expected answer that can only be one of these errors."""
    return Asked(id_, kinds=frozenset(kinds))


def _only(asked: Asked) -> tuple[Asked, list[Message]]:
    return asked, [asked]


def _batch(elements: list[Any], limit: int) -> tuple[Asked | Array | None, list[Message]]:
    if not elements:
        return _only(refused(None, "invalid_request"))
    if len(elements) > limit:
        return _only(refused(None, "batch_too_long"))
    messages = [message for element in elements if (message := _message(element)) is not None]
    slots = [message for message in messages if isinstance(message, Asked)]
    return (Array(slots) if slots else None), messages


def _message(value: Any) -> Message | None:
    """Return one message; None for an answer, because the sidecar asks nothing and passes answers over."""
    if not isinstance(value, dict):
        return refused(None, "invalid_request")
    id_ = value.get("id")
    if not _is_id(id_):
        return refused(None, "invalid_request")
    if "method" not in value and ("result" in value or "error" in value):
        return None
    if not _is_call(value):
        return refused(id_, "invalid_request")
    method = value["method"]
    params = by_name(method, value.get("params"))
    if has_surrogates(value):
        return refused(id_, "invalid_params", "invalid_request") if "id" in value else Told("", None)
    if "id" not in value:
        return Told(method, params)
    if METHODS.get(method, {}).get("direction") != "host-to-sidecar":
        return Asked(id_, method, kinds=frozenset({"method_not_found"}))
    return Asked(id_, method, params)


def _is_id(id_: Any) -> bool:
    return id_ is None or (isinstance(id_, str | int | float) and not isinstance(id_, bool))


def _is_call(value: dict[str, Any]) -> bool:
    return (
        value.get("jsonrpc") == "2.0"
        and isinstance(value.get("method"), str)
        and value.get("result") is None
        and value.get("error") is None
        and isinstance(value.get("params"), dict | list | None)
    )


def by_name(method: str, params: Any) -> dict[str, Any] | None:
    """Return the parameters by name if they fit the committed schema, else None."""
    if method not in METHODS:
        return None
    definition = str(METHODS[method]["params"]["$ref"]).rsplit("/", 1)[1]
    if params in (None, [], [None]):
        params = {}
    if isinstance(params, list):
        names = list(committed("mlx-sidecar.schema.json")["$defs"][definition].get("properties", ()))
        if len(params) > len(names):
            return None
        params = dict(zip(names, params, strict=False))
    if not validator(definition).is_valid(params):
        params = _as_meant(definition, params)
    return params if validator(definition).is_valid(params) else None


def _as_meant(definition: str, params: Any) -> Any:
    """Exchange {} and [] where one is at fault, because some languages have one empty table for both."""
    mended = deepcopy(params)
    for error in validator(definition).iter_errors(params):
        for fault in _with_causes(error):
            if fault.instance in ({}, []) and fault.absolute_path:
                *way, last = fault.absolute_path
                reduce(getitem, way, mended)[last] = {} if fault.instance == [] else []
    return mended


def _with_causes(error: ValidationError) -> Iterator[ValidationError]:
    yield error
    for cause in error.context or ():
        yield from _with_causes(cause)


def has_surrogates(value: Any) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return True
    return False


def _is_deeper(value: Any, limit: int) -> bool:
    level = [value]
    for _ in range(limit):
        level = [part for whole in level for part in _parts(whole)]
    return any(isinstance(part, dict | list) for part in level)


def _parts(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        yield from value.values()
    elif isinstance(value, list):
        yield from value
