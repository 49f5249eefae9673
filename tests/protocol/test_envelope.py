"""From the bytes of a frame to a message, and from answers to bytes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlx_sidecar_protocol import errors
from mlx_sidecar_protocol.envelope import (
    Batch,
    FloatId,
    Ignored,
    Invalid,
    Notification,
    Request,
    Response,
    encode_batch,
    encode_error,
    encode_id,
    encode_notification,
    encode_result,
    parse,
)
from mlx_sidecar_protocol.limits import Limits
from mlx_sidecar_protocol.strings import has_surrogates, surrogate_place


def request(**members: Any) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": 1, "method": "m", **members}).encode()


def raw(members: str) -> bytes:
    return b'{"jsonrpc":"2.0","method":"m",%b}' % members.encode()


def invalid_kind(frame: bytes, limits: Limits | None = None) -> tuple[Any, str]:
    message = parse(frame, limits or Limits())
    assert isinstance(message, Invalid), message
    return message.id, message.error.kind


def test_a_request_has_an_id_and_a_notification_has_none() -> None:
    assert parse(request(params={"a": 1})) == Request(1, "m", {"a": 1})
    assert parse(request(id=None)) == Request(None, "m", None)
    assert parse(b'{"jsonrpc":"2.0","method":"m","ID":1,"extra":{}}') == Notification("m", None)


@pytest.mark.parametrize("params", [None, [], [None]])
def test_what_hosts_send_for_no_params_is_none(params: Any) -> None:
    assert parse(request(params=params)) == Request(1, "m", None)


@pytest.mark.parametrize("text", ["0", "-7", '"abc"', '""', '"1"', "9007199254740993", str(2**64), "9" * 4300, "null"])
def test_ids_come_back_as_they_came(text: str) -> None:
    message = parse(raw(f'"id":{text}'))
    assert isinstance(message, Request)
    assert encode_id(message.id).decode() == text


@pytest.mark.parametrize("text", ["1.0", "1.10", "1e2", "1E+2", "-0.0", "0.1000000000000000055", "1e999"])
def test_fractional_ids_come_back_digit_for_digit(text: str) -> None:
    frame = raw(f'"params":[0.5],"id":{text}')
    message = parse(frame)
    assert isinstance(message, Request)
    assert message.params == [0.5]
    assert isinstance(message.params, list)
    assert not isinstance(message.params[0], FloatId)
    assert encode_id(message.id).decode() == text
    batch = parse(b"[1,%b]" % frame)
    assert isinstance(batch, Batch)
    assert isinstance(batch.messages[1], Request)
    assert encode_id(batch.messages[1].id).decode() == text


def test_one_and_one_point_zero_are_the_same_id_and_the_string_is_another() -> None:
    open_requests: dict[object, str] = {1: "running"}
    assert FloatId("1.0") in open_requests
    assert "1" not in open_requests


@pytest.mark.parametrize("id_", [True, False, [1], {"a": 1}])
def test_an_id_of_another_type_is_refused_without_one(id_: Any) -> None:
    assert invalid_kind(request(id=id_)) == (None, "invalid_request")


@pytest.mark.parametrize(
    "members",
    [
        {"jsonrpc": 2.0},
        {"jsonrpc": "1.0"},
        {"jsonrpc": None},
        {"method": 1},
        {"method": None},
        {"params": 1},
        {"params": "x"},
        {"params": False},
        {"result": {}},
        {"error": {}},
        {"result": None, "error": {}},
    ],
)
def test_an_invalid_request_is_refused_under_its_id(members: dict[str, Any]) -> None:
    assert invalid_kind(request(**members)) == (1, "invalid_request")


def test_a_result_and_an_error_that_are_null_do_not_spoil_a_request() -> None:
    assert parse(request(params=None, result=None, error=None)) == Request(1, "m", None)


@pytest.mark.parametrize("text", ["1", '"x"', "null", "true", "1.5", '{"foo":"boo"}', "[]"])
def test_what_is_not_a_message_is_refused_once(text: str) -> None:
    assert invalid_kind(text.encode()) == (None, "invalid_request")


@pytest.mark.parametrize("text", ['{"id":9,"result":{}}', '{"jsonrpc":"2.0","id":null,"error":{"code":1}}'])
def test_an_answer_of_the_host_is_recognised_and_never_answered(text: str) -> None:
    assert isinstance(parse(text.encode()), Response)


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"hello",
        b'{"a":1',
        b"[NaN]",
        b"[Infinity]",
        b"[-Infinity]",
        b"[+1]",
        b"[.5]",
        b"[1.]",
        b"[01]",
        b"[1,]",
        b"{'a':1}",
        b"{a:1}",
        b'["a\tb"]',
        b'["\\x41"]',
        b"{} {}",
        b"{}\0",
        b"1/*c*/",
        b"\xef\xbb\xbf{}",
        b"\xc2\xa0{}",
        b'["\xe9"]',
        b'["\xe2\x82"]',
        b'["\xed\xa0\x80"]',
        b'["\xf5\x80\x80\x80"]',
        b'["\xc0\x80"]',
    ],
)
def test_what_is_not_json_in_utf8_is_a_parse_error(frame: bytes) -> None:
    assert invalid_kind(frame) == (None, "parse_error")


def test_nesting_is_counted_in_arrays_and_objects_and_not_in_strings() -> None:
    limits = Limits(nesting=3)
    assert isinstance(parse(request(params=[[1], {"a": 2}, "[[[[[[{{{{"]), limits), Request)
    assert invalid_kind(request(params=[[[]]]), limits) == (None, "nesting_too_deep")
    assert isinstance(parse(request(params={"a": [[0]] * 500}), Limits(nesting=4)), Request)


@pytest.mark.parametrize("frame", [b"[" * 100_000, b"[" * 20_000 + b"]" * 20_000, b'{"a":' * 129 + b"1" + b"}" * 129])
def test_deep_nesting_is_a_typed_error(frame: bytes) -> None:
    assert invalid_kind(frame) == (None, "nesting_too_deep")


def test_limits_that_cannot_be_kept_are_refused() -> None:
    with pytest.raises(ValueError, match="nesting"):
        Limits(nesting=201)
    with pytest.raises(ValueError, match="positive"):
        Limits(batch=0)


def test_unpaired_surrogates_are_refused_under_the_id_of_the_request() -> None:
    assert invalid_kind(raw(r'"id":1,"params":{"text":"cut \ud83d"}')) == (1, "invalid_params")
    assert invalid_kind(raw(r'"id":1.50,"params":{"\udc00":1}')) == (1.5, "invalid_params")
    assert invalid_kind(rb'{"jsonrpc":"2.0","id":1,"method":"\udc80x"}') == (1, "invalid_request")
    assert invalid_kind(raw(r'"id":"\ud800"')) == (None, "invalid_request")
    assert invalid_kind(rb'{"jsonrpc":"2.0","id":"\ud800","method":7}') == (None, "invalid_request")
    assert isinstance(parse(raw(r'"params":["\ud800"]')), Ignored)
    assert isinstance(parse(raw(r'"id":1,"params":["\ud83d\ude00"]')), Request)


@pytest.mark.parametrize(
    ("params", "loc"),
    [
        (r'{"model":"m","input":["ok","cut \ud83d"]}', ["input", 1]),
        (r'{"messages":[{"role":"user","content":[{"text":"\udc00"}]}]}', ["messages", 0, "content", 0, "text"]),
        (r'{"options":{"\ud800":1}}', ["options"]),
        (r'{"\ud800":1}', ["params"]),
        (r'["ok","\ud800"]', ["params", 1]),
    ],
)
def test_the_error_of_an_unpaired_surrogate_leads_to_its_string(params: str, loc: list[str | int]) -> None:
    message = parse(raw(f'"id":1,"params":{params}'))
    assert isinstance(message, Invalid)
    assert message.error.details["errors"][0]["loc"] == loc


TEXTS = st.text(st.sampled_from("aé\ud800"), max_size=3)
JSON_VALUES = st.recursive(
    st.integers() | TEXTS,
    lambda parts: st.lists(parts, max_size=4) | st.dictionaries(TEXTS, parts, max_size=4),
    max_leaves=12,
)


@given(JSON_VALUES)
def test_a_place_is_found_exactly_where_a_value_has_a_surrogate(value: Any) -> None:
    place = surrogate_place(value)
    assert (place is not None) is has_surrogates(value)
    for name in place or ():
        value = value[name]
    if place is not None:
        assert has_surrogates(value)


def test_one_unpaired_surrogate_spoils_only_its_element() -> None:
    batch = parse(b"[%b,%b]" % (raw(r'"id":1,"params":["\ud800"]'), raw('"id":2')))
    assert isinstance(batch, Batch)
    assert isinstance(batch.messages[0], Invalid)
    assert batch.messages[1] == Request(2, "m", None)


def test_one_bad_element_of_a_batch_spoils_that_element_only() -> None:
    batch = parse(b'[1,[],%b,{"foo":1},%b]' % (request(), raw('"params":[]')))
    assert isinstance(batch, Batch)
    kinds = [type(message) for message in batch.messages]
    assert kinds == [Invalid, Invalid, Request, Invalid, Notification]


def test_a_batch_over_the_limit_is_refused_as_a_whole() -> None:
    limits = Limits(batch=3)
    assert isinstance(parse(b"[1,2,3]", limits), Batch)
    assert invalid_kind(b"[1,2,3,4]", limits) == (None, "batch_too_long")


def test_a_result_is_encoded_with_exactly_three_members_and_no_infinity() -> None:
    assert encode_result("é", {"x": float("nan"), "y": [float("inf")]}) == (
        '{"jsonrpc":"2.0","id":"é","result":{"x":null,"y":[null]}}'.encode()
    )
    assert encode_result(1, b"{}") == b'{"jsonrpc":"2.0","id":1,"result":{}}'
    assert json.loads(encode_result(1, {"path": "a\udc80"}))["result"] == {"path": "a?"}


def test_an_error_has_code_message_and_data_and_nothing_else() -> None:
    answer = json.loads(encode_error(None, errors.ContextTooLong(have=9000, limit=8192)))
    assert answer == {
        "jsonrpc": "2.0",
        "id": None,
        "error": {
            "code": -32004,
            "message": "the prompt has 9000 tokens, the limit is 8192",
            "data": {"kind": "context_too_long", "retryable": False, "have": 9000, "limit": 8192},
        },
    }


@pytest.mark.parametrize("name", ["m" * 100_000, "\ud800" * 10, "\n\0"])
def test_strange_names_in_errors_are_cut_and_always_encode(name: str) -> None:
    body = encode_error(1, errors.ModelNotFound(name))
    assert len(body) < 4096
    assert b"\n" not in body
    json.loads(body.decode("utf-8"))


def test_notifications_and_batches_are_encoded() -> None:
    assert encode_notification("a/b", {"x": 1}) == b'{"jsonrpc":"2.0","method":"a/b","params":{"x":1}}'
    assert encode_batch([b"{}", b"{}"]) == b"[{},{}]"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)
MEMBERS = st.fixed_dictionaries(
    {},
    optional={
        "jsonrpc": st.just("2.0") | JSON,
        "id": JSON,
        "method": st.text() | JSON,
        "params": JSON,
        "result": JSON,
        "error": JSON,
    },
)


@given(MEMBERS | JSON | st.lists(MEMBERS, max_size=3))
def test_any_json_value_is_understood_or_refused(value: Any) -> None:
    message = parse(json.dumps(value).encode())
    for one in message.messages if isinstance(message, Batch) else [message]:
        if isinstance(one, Request | Invalid):
            json.loads(encode_error(one.id, errors.InternalError()))


@given(st.binary() | st.text(alphabet='{}[]",:\\ud8a01e.-\t N').map(str.encode))
def test_any_bytes_are_refused_or_are_json(frame: bytes) -> None:
    if not isinstance(parse(frame), Invalid):
        json.loads(frame.decode("utf-8"))


@pytest.mark.parametrize(
    "written",
    [b'"%b"' % (b"x" * 5000), b"9" * 4300, b"1" * 5000, b"-" + b"7" * 5000, b"1" * 30 + b".5", b"1e400", b"1E5"],
    ids=lambda written: f"{written[:8].decode()} {len(written)}",
)
def test_an_id_goes_back_as_it_was_written_however_long_it_is(written: bytes) -> None:
    request = parse(b'{"jsonrpc":"2.0","id":%b,"method":"ping"}' % written)
    assert isinstance(request, Request)
    assert encode_id(request.id) == written
    batch = parse(b'[{"jsonrpc":"2.0","id":%b,"method":"ping"}]' % written)
    assert isinstance(batch, Batch)
    assert isinstance(batch.messages[0], Request)
    assert encode_id(batch.messages[0].id) == written
