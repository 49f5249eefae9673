"""Decodes the bytes of one frame into JSON-RPC 2.0 messages, and encodes answers into bytes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

from pydantic_core import PydanticSerializationError, from_json, to_json

from .errors import (
    NO_DATA,
    BatchTooLong,
    InvalidParams,
    InvalidRequest,
    NestingTooDeep,
    ParseError,
    RpcError,
    TooManyValues,
)
from .extent import find_excess, may_exceed
from .limits import DEFAULT_LIMITS, Limits
from .strings import has_surrogates, map_strings, replace_surrogates, surrogate_place

_MAX_ERROR_TEXT = 1000  # characters of any string in an error, because errors may quote a host's long texts


class FloatId(float):
    """An id with a fraction or an exponent; ``text`` is the host's own spelling, in which it is sent back."""

    text: str

    def __new__(cls, text: str) -> FloatId:
        self = super().__new__(cls, text)
        self.text = text
        return self


# A float is always a FloatId once parsed. 1 and 1.0 are equal as keys, because some hosts turn whole ids into floats.
# 1 and "1" are not.
RequestId = int | str | float | None
Params = dict[str, Any] | list[Any] | None


class Request(NamedTuple):
    """A call to be answered exactly once. ``params`` is None for ``null``, ``[]`` and ``[null]`` too."""

    id: RequestId
    method: str
    params: Params


class Notification(NamedTuple):
    """A call that is never answered."""

    method: str
    params: Params


class Response(NamedTuple):
    """An answer of the host; ``error`` is None for a success."""

    id: Any
    result: Any
    error: Any


class Invalid(NamedTuple):
    """A text that is no message; it is answered with ``error``, under ``id`` if that could be read."""

    id: RequestId
    error: RpcError


class Ignored(NamedTuple):
    """A notification that cannot be carried out, which is only logged."""

    error: RpcError


Message = Request | Notification | Response | Invalid | Ignored
_MOST_DIGITS = 4300
_WITH_ID = (Request, Invalid)


class Batch(NamedTuple):
    """Messages to be answered by one array; at least one."""

    messages: list[Message]


class Encodable(Protocol):
    """A result that can encode itself."""

    def to_json_bytes(self) -> bytes: ...
    def to_plain(self) -> dict[str, Any]: ...


# Bytes are the JSON of an object.
Result = bytes | Mapping[str, Any] | Encodable


def parse(frame: bytes, limits: Limits = DEFAULT_LIMITS) -> Message | Batch:
    """The message or batch in one frame. Never raises: a frame that cannot be understood is ``Invalid``."""
    if may_exceed(frame, limits) and (found := find_excess(frame, limits)) is not None:
        what, limit, id_ = found
        if what == "nesting":
            return Invalid(None, NestingTooDeep(limit=limit))
        return Invalid(_id_of(id_), TooManyValues(what=what, limit=limit))
    try:
        value = from_json(frame, allow_inf_nan=False)
    except ValueError as error:
        return _parse_unusual(frame, limits, str(error))
    # Counting brackets is quick, so only texts that may be too deep are walked.
    if frame.count(b"[") + frame.count(b"{") > limits.nesting and _is_deeper(value, limits.nesting):
        return Invalid(None, NestingTooDeep(limit=limits.nesting))
    return _read(value, frame, limits)


def encode_result(id_: RequestId, result: Result) -> bytes:
    """The body of a successful answer. NaN and infinities become null."""
    return b'{"jsonrpc":"2.0","id":%b,"result":%b}' % (encode_id(id_), _encode(result))


def encode_error(id_: RequestId, error: RpcError) -> bytes:
    """The body of a failure: code, message and, if the error has any, data. Long strings are cut."""
    content = {"code": error.code, "message": error.message}
    if error.data is not NO_DATA:
        content["data"] = error.data
    content = map_strings(content, lambda text: replace_surrogates(text[:_MAX_ERROR_TEXT]))
    return b'{"jsonrpc":"2.0","id":%b,"error":%b}' % (encode_id(id_), to_json(content, inf_nan_mode="null"))


def encode_notification(method: str, params: Result) -> bytes:
    """The body of a notification of ours."""
    return b'{"jsonrpc":"2.0","method":%b,"params":%b}' % (to_json(method), _encode(params))


def encode_batch(answers: list[bytes]) -> bytes:
    """The body that answers a batch."""
    return b"[%b]" % b",".join(answers)


def encode_id(id_: RequestId) -> bytes:
    """An id as the host wrote it."""
    if type(id_) is int:
        return b"%d" % id_
    if isinstance(id_, FloatId):
        return id_.text.encode()
    return to_json(id_)


def _encode(result: Result) -> bytes:
    if isinstance(result, bytes):
        return result
    try:
        return to_json(result, inf_nan_mode="null") if isinstance(result, Mapping) else result.to_json_bytes()
    except PydanticSerializationError:
        # A file name that is not UTF-8 holds surrogates, which no JSON text can carry.
        plain = result if isinstance(result, Mapping) else result.to_plain()
        return to_json(map_strings(plain, replace_surrogates), inf_nan_mode="null")


def _read(value: Any, frame: bytes, limits: Limits) -> Message | Batch:
    if isinstance(value, dict):
        # The parser rounds only numbers with fractions and exponents, not whole ones.
        if type(value.get("id")) is float:
            return _exact_id(_message(value), _message(_with_exact_floats(frame)))
        return _message(value)
    if not isinstance(value, list):
        return Invalid(None, InvalidRequest("a message is an object or an array of objects"))
    if not value:
        return Invalid(None, InvalidRequest("a batch holds at least one message"))
    if len(value) > limits.batch:
        return Invalid(None, BatchTooLong(have=len(value), limit=limits.batch))
    messages = [_message(element) for element in value]
    if any(_has_float_id(message) for message in messages):
        written = [_message(element) for element in _with_exact_floats(frame)]
        messages = [_exact_id(message, exact) for message, exact in zip(messages, written, strict=True)]
    return Batch(messages)


def _message(value: Any) -> Message:
    if type(value) is not dict:
        return Invalid(None, InvalidRequest("a message is an object"))
    get = value.get
    id_ = get("id")
    is_request = "id" in value
    if id_ is not None and type(id_) is not int and type(id_) is not str and not isinstance(id_, float):
        return Invalid(None, InvalidRequest("id must be a string, a number or null"))
    if "result" in value or "error" in value:
        if "method" not in value:
            return Response(id_, get("result"), get("error"))
        # A host with one record for all kinds of messages writes every member, unused ones as null.
        if get("result") is not None or get("error") is not None:
            return Invalid(id_, InvalidRequest("a message has either a method or a result"))
    if get("jsonrpc") != "2.0":
        return Invalid(id_, InvalidRequest('jsonrpc must be "2.0"'))
    method, params = get("method"), get("params")
    if type(method) is not str:
        return Invalid(id_, InvalidRequest("method must be a string"))
    if params is not None and type(params) is not dict:
        if type(params) is not list:
            return Invalid(id_, InvalidRequest("params must be an object or an array"))
        if not params or params == [None]:
            params = None
    return Request(id_, method, params) if is_request else Notification(method, params)


def _id_of(written: bytes | None) -> RequestId:
    """The id in ``written``, cut from a text that was not parsed; None if it is no id."""
    if written is None:
        return None
    try:
        id_: int | float | str = from_json(written, allow_inf_nan=False)
    except ValueError:
        return None
    return FloatId(written.decode()) if isinstance(id_, float) else id_


def _exact_id(message: Message, written: Message) -> Message:
    """``message`` with its id digit for digit as the host wrote it, from ``written``."""
    if isinstance(message, _WITH_ID) and isinstance(written, _WITH_ID):
        return message._replace(id=written.id)
    return message


def _has_float_id(message: Message) -> bool:
    return isinstance(message, _WITH_ID) and type(message.id) is float


def _with_exact_floats(frame: bytes) -> Any:
    """Parse ``frame``, known to be JSON of bounded depth, with every float as a FloatId."""
    return json.loads(frame, parse_float=FloatId)


def _is_deeper(value: Any, limit: int) -> bool:
    """Whether arrays and objects in ``value`` are nested deeper than ``limit``."""
    level = [value]
    for _ in range(limit):
        level = [part for whole in level for part in _parts(whole)]
        if not level:
            return False
    return any(isinstance(part, dict | list) for part in level)


def _parts(value: Any) -> list[Any]:
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [part for part in parts if isinstance(part, dict | list)]


def _parse_unusual(frame: bytes, limits: Limits, why: str) -> Message | Batch:
    """The message in a text that the strict parser refused: not JSON, too deep, or with an unpaired surrogate.

    A request with an unpaired surrogate gets an error under its own id, so that its caller hears of it. Hosts cut text
    in the middle of a character, and JSON.stringify lets that through.
    """
    if "recursion limit" in why:
        return Invalid(None, NestingTooDeep(limit=limits.nesting))
    try:
        value = json.loads(frame.decode("utf-8"), parse_constant=_refuse_constant, parse_int=_whole)
    except (ValueError, RecursionError):
        return Invalid(None, ParseError(why))
    if _is_deeper(value, limits.nesting):
        return Invalid(None, NestingTooDeep(limit=limits.nesting))
    message = _read(value, frame, limits)
    return Batch([_refuse(one) for one in message.messages]) if isinstance(message, Batch) else _refuse(message)


def _whole(text: str) -> int | FloatId:
    """A whole number; a FloatId if it has more digits than Python reads, because an id is sent back as written."""
    return int(text) if len(text) < _MOST_DIGITS else FloatId(text)


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _refuse(message: Message) -> Message:
    """``message`` itself unless it holds an unpaired surrogate."""
    why = "a string has an unpaired surrogate"
    if isinstance(message, Notification) and has_surrogates(message):
        return Ignored(InvalidRequest(why))
    if isinstance(message, Invalid) and has_surrogates(message.id):
        return Invalid(None, message.error)
    if isinstance(message, Request):
        if has_surrogates(message.id):
            return Invalid(None, InvalidRequest(why))
        if has_surrogates(message.method):
            return Invalid(message.id, InvalidRequest(why))
        if (place := surrogate_place(message.params)) is not None:
            named = place if place and isinstance(message.params, Mapping) else ("params", *place)
            return Invalid(message.id, InvalidParams([{"loc": [*named], "msg": why, "type": "string_unicode"}]))
    return message
