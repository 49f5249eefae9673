"""The committed schemas fit the values that the models take and send."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from mlx_sidecar_protocol import errors, schema
from mlx_sidecar_protocol.error_data import DETAILS
from mlx_sidecar_protocol.errors import InvalidParams, RpcError
from mlx_sidecar_protocol.model import Received, Sent
from mlx_sidecar_protocol.registry import METHODS, MethodSpec, own_notifications, requests
from tests.support.frames import SCHEMAS, FrameChecker, check, committed, validator
from tests.support.strategies import attempts, sent

BUNDLE = committed("mlx-sidecar.schema.json")
RECEIVED = sorted(
    {spec.params for spec in METHODS.values() if issubclass(spec.params, Received)}, key=lambda m: m.__name__
)
RESULTS = [spec for spec in requests() if spec.result is not None]

ERRORS = [
    errors.ParseError("not JSON"),
    errors.NestingTooDeep(limit=128),
    errors.InvalidRequest("no method"),
    errors.FrameTooLarge(limit_bytes=10),
    errors.BatchTooLong(have=2, limit=1),
    errors.TooManyValues(what="values", limit=1),
    errors.MethodNotFound(),
    errors.InvalidParams.field("top_p", "too large"),
    errors.InternalError(),
    errors.ModelNotFound("m", "no such directory"),
    errors.ModelLoadFailed("m", "no weights"),
    errors.ModelUnsupported("m", "unknown type"),
    errors.NotInitialized("initialize comes first"),
    errors.ShuttingDown(),
    errors.ModelNotLoaded("m"),
    errors.ModelInUse("m", 2),
    errors.ContextTooLong(have=9000, limit=8192),
    errors.UnsupportedParameter("window", "not in this version"),
    errors.Overloaded(queue=9, limit=8, retry_after_s=0.5),
    errors.OutOfMemory(need_bytes=10, have_bytes=5),
    errors.DeadlinePassed(),
    errors.EngineLost("killed"),
    errors.EngineStalled("an operation took too long"),
    errors.PoisonRequest("this request ended the engine twice"),
    errors.ConstraintUnsatisfiable(3),
    errors.NonFiniteLogits("m", 3),
    errors.NonFiniteEmbedding("m"),
    errors.UnknownStream("s"),
    errors.UnknownSession("s"),
    errors.UnknownAdapter("a", "m"),
    errors.AdapterLoadFailed("a", "because"),
    errors.AdapterUnsupported("a", "because"),
    errors.DuplicateStream(1),
    errors.DuplicateId(),
    errors.Cancelled(),
]

thorough = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def nodes(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
    for child in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from nodes(child)


def test_the_committed_schemas_are_what_the_models_say() -> None:
    assert schema.differences(SCHEMAS) == []


def test_writing_twice_writes_the_same_and_the_check_passes(tmp_path: Path) -> None:
    assert schema.main([str(tmp_path)]) == 0
    assert schema.main(["--check", str(tmp_path)]) == 0
    assert {path.name: path.read_text(encoding="utf-8") for path in tmp_path.iterdir()} == schema.files()


def test_the_check_names_the_file_and_the_line_that_differ(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    schema.main([str(tmp_path)])
    index = tmp_path / "methods.json"
    index.write_text(index.read_text(encoding="utf-8").replace('"name": "ping"', '"name": "pong"'), encoding="utf-8")
    assert schema.main(["--check", str(tmp_path)]) == 1
    told = capsys.readouterr().err
    assert "methods.json" in told
    assert '-      "name": "pong",' in told
    assert "make schemas" in told


def test_the_bundle_is_a_valid_schema_and_its_references_resolve() -> None:
    Draft202012Validator.check_schema(BUNDLE)
    for node in nodes(BUNDLE):
        if "$ref" in node:
            assert node["$ref"].removeprefix("#/$defs/") in BUNDLE["$defs"]


def test_names_in_the_bundle_are_good_names_of_types() -> None:
    for name, definition in BUNDLE["$defs"].items():
        assert re.fullmatch(r"[A-Z][A-Za-z]+", name), name
        assert definition["title"] == name
    titles = [node["title"] for node in nodes(BUNDLE["$defs"]) if isinstance(node.get("title"), str)]
    assert sorted(titles) == sorted(BUNDLE["$defs"]), "titles are on definitions only"


def test_no_number_in_the_schemas_is_too_large_for_hosts_with_floats() -> None:
    for name in schema.files():
        for node in nodes(committed(name)):
            assert all(abs(value) < 10**14 for value in node.values() if isinstance(value, int)), node


@pytest.mark.parametrize("spec", RESULTS, ids=lambda spec: spec.name)
def test_every_result_is_what_the_schema_says(spec: MethodSpec) -> None:
    assert spec.result is not None

    @thorough
    @given(sent(spec.result), st.integers() | st.text())
    def holds(result: Sent, id_: int | str) -> None:
        wire = json.loads(result.to_json_bytes(), parse_constant=pytest.fail)
        assert wire == result.to_plain()
        frames = FrameChecker()
        frames.sent_by_host({"jsonrpc": "2.0", "id": id_, "method": spec.name})
        frames.sent_by_sidecar({"jsonrpc": "2.0", "id": id_, "result": wire})
        check("AnyOutgoingFrame", {"jsonrpc": "2.0", "id": id_, "result": wire})

    holds()


@pytest.mark.parametrize("spec", own_notifications(), ids=lambda spec: spec.name)
def test_every_notification_is_what_the_schema_says(spec: MethodSpec) -> None:
    assert issubclass(spec.params, Sent)

    @thorough
    @given(sent(spec.params))
    def holds(params: Sent) -> None:
        frame = {"jsonrpc": "2.0", "method": spec.name, "params": json.loads(params.to_json_bytes())}
        FrameChecker().sent_by_sidecar(frame)
        check("AnyOutgoingFrame", frame)

    holds()


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.kind)
def test_every_error_is_what_the_schema_says(error: RpcError) -> None:
    wire = {"code": error.code, "message": error.message, "data": error.data}
    frame = {"jsonrpc": "2.0", "id": None, "error": wire}
    FrameChecker().sent_by_sidecar(frame)
    check("AnyOutgoingFrame", frame)
    check("AnyOutgoingFrame", [frame])


def test_every_error_has_its_data_described_and_is_tested_here() -> None:
    declared = {value for value in vars(errors).values() if inspect.isclass(value) and issubclass(value, RpcError)} - {
        RpcError
    }
    assert set(DETAILS) == declared == {type(error) for error in ERRORS}
    kinds = [error.kind for error in DETAILS]
    assert len(set(kinds)) == len(kinds)


@pytest.mark.parametrize("model", RECEIVED, ids=lambda model: model.__name__)
def test_the_schema_takes_what_the_model_takes_and_refusals_name_a_field(model: type[Received]) -> None:
    @thorough
    @given(attempts(model))
    def holds(params: dict[str, Any]) -> None:
        try:
            model.parse(params)
        except InvalidParams as refusal:
            named = {error["loc"][0] for error in refusal.data["errors"]}
            assert named <= {*model.model_fields, *params}
        else:
            check(model.__name__, params)

    holds()


@pytest.mark.parametrize("model", RECEIVED, ids=lambda model: model.__name__)
def test_the_schema_refuses_unknown_and_missing_members_as_the_model_does(model: type[Received]) -> None:
    unknown = {"no_such_member": 1}
    assert not validator(model.__name__).is_valid(unknown)
    required = {name for name, field in model.model_fields.items() if field.is_required()}
    assert set(BUNDLE["$defs"][model.__name__].get("required", [])) == required


@pytest.mark.parametrize(
    "frame",
    [
        {"jsonrpc": "2.0", "id": 1},
        {"jsonrpc": "2.0", "id": 1, "result": {"extra": 1}},
        {"jsonrpc": "2.0", "id": 1, "result": {}, "error": None},
        {"jsonrpc": "2.0", "id": 1, "error": {"code": -32603, "message": "internal error"}},
        {"jsonrpc": "2.0", "method": "stream/delta", "params": {"stream": "s"}},
        {"jsonrpc": "2.0", "method": "ping", "params": {}},
        {"id": 1, "result": {}},
    ],
)
def test_a_frame_that_we_never_send_is_refused(frame: dict[str, Any]) -> None:
    assert not validator("AnyOutgoingFrame").is_valid(frame)


def test_what_hosts_ask_is_an_incoming_frame() -> None:
    check(
        "AnyIncomingFrame", {"jsonrpc": "2.0", "id": 1, "method": "generate", "params": {"model": "m", "prompt": "x"}}
    )
    check("AnyIncomingFrame", [{"jsonrpc": "2.0", "id": "a", "method": "ping"}, {"jsonrpc": "2.0", "method": "exit"}])
    assert not validator("AnyIncomingFrame").is_valid({"jsonrpc": "2.0", "id": 1, "method": "generate"})


def test_the_index_lists_every_method_with_references_into_the_bundle() -> None:
    entries = committed("methods.json")["methods"]
    assert [entry["name"] for entry in entries] == list(METHODS)
    for node in nodes(committed("methods.json")):
        if "$ref" in node:
            assert node["$ref"].removeprefix("mlx-sidecar.schema.json#/$defs/") in BUNDLE["$defs"]


def test_the_openrpc_document_keeps_the_rules_of_openrpc() -> None:
    document = committed("openrpc.json")
    check("DiscoverResult", document)
    names = [method["name"] for method in document["methods"]]
    assert len(set(names)) == len(names)
    for method in document["methods"]:
        required = [param["required"] for param in method["params"]]
        assert required == sorted(required, reverse=True), "required parameters come first"
        codes = [error["code"] for error in method.get("errors", ())]
        assert len(set(codes)) == len(codes), "error codes are unique within a method"
        assert ("result" in method) == (METHODS[method["name"]].kind == "request")
    for node in nodes(document):
        if "$ref" in node:
            assert node["$ref"].removeprefix("#/components/schemas/") in document["components"]["schemas"]
