"""The models of the operations take, refuse and send the right values."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

import mlx_sidecar_protocol
from mlx_sidecar_protocol import cache, generate, notifications, operations
from mlx_sidecar_protocol.errors import InvalidParams
from mlx_sidecar_protocol.generate import GenerateParams, Message, Prompted
from mlx_sidecar_protocol.generate_result import TokenLogprob
from mlx_sidecar_protocol.model import NullIs, Received, Sent
from mlx_sidecar_protocol.names import GENERATE_PARAMETERS, HOST_METHODS
from mlx_sidecar_protocol.operations import (
    CancelRequestParams,
    InitializeParams,
    LoadParams,
    NoParams,
    StreamSubscribeParams,
    TokenizeParams,
)
from mlx_sidecar_protocol.registry import METHODS, build_models, host_notifications, own_notifications, requests
from mlx_sidecar_protocol.response_format import JsonSchemaFormat
from mlx_sidecar_protocol.stats import Histogram, Memory

PACKAGE = Path(mlx_sidecar_protocol.__file__).parent


def all_models(base: type[BaseModel]) -> Iterator[type[BaseModel]]:
    for child in base.__subclasses__():
        if child.__module__.startswith("mlx_sidecar_protocol"):
            yield child
            yield from all_models(child)


RECEIVED = sorted(all_models(Received), key=str)
PROMPT = {"model": "pocket", "prompt": "Hello"}


def locations(model: type[Received], params: object) -> list[list[str | int]]:
    with pytest.raises(InvalidParams) as caught:
        model.parse(params)
    return [error["loc"] for error in caught.value.data["errors"]]


@pytest.mark.parametrize("nothing", [None, [], [None], {}])
def test_no_parameters_may_be_written_in_every_way_hosts_write_it(nothing: object) -> None:
    assert NoParams.parse(nothing) == NoParams()


def test_parameters_by_position_come_in_the_order_of_the_fields() -> None:
    assert TokenizeParams.parse(["pocket", "Hello", None, True]) == TokenizeParams(
        model="pocket", text="Hello", add_special=True, pieces=True
    )
    assert locations(TokenizeParams, ["pocket", 3]) == [["text"]]


@pytest.mark.parametrize("params", [["pocket", "a", True, True, False, 5], "Hello", 3, True])
def test_what_cannot_be_parameters_is_refused(params: object) -> None:
    assert locations(TokenizeParams, params) == [[]]


def test_the_smallest_generate_has_every_default_filled_in() -> None:
    params = GenerateParams.parse(PROMPT)
    assert (params.temperature, params.top_p, params.top_k, params.min_p) == (0.0, 1.0, 0, 0.0)
    assert (params.echo_text, params.ignore_eos, params.priority) == (True, False, "normal")
    assert (params.stream, params.max_tokens, params.seed, params.token_bias) == (None, None, None, {})


@pytest.mark.parametrize("model", RECEIVED)
def test_null_in_an_optional_field_is_the_same_as_leaving_it_out(model: type[Received]) -> None:
    required = {
        "model": "m", "protocol_version": 1, "client": {"name": "c"}, "id": 1, "stream": 1, "seq": 0, "text": "",
        "type": "text", "role": "user", "name": "n", "tokens": [], "messages": [{"role": "user"}],
        "path": "/file", "draft": "d", "choices": ["a"], "syntax": "lark", "grammar": "g", "pattern": "p", "schema": {},
        "session": "s", "to": "t", "adapter": "a", "input": ["x"], "query": "q", "documents": ["x"],
    }  # fmt: skip
    fields = {field.alias or name: field for name, field in model.model_fields.items()}
    given_fields = {name: required[name] for name, field in fields.items() if field.is_required()}
    if issubclass(model, Prompted):
        given_fields |= {"model": "m", "prompt": ""}
    if issubclass(model, JsonSchemaFormat):
        given_fields["schema"] = {}
    if "type" in given_fields:
        given_fields["type"] = get_args(model.model_fields["type"].annotation)[0]
    nulls = {name: None for name in fields if name not in given_fields}
    assert model.parse({**given_fields, **nulls}) == model.parse(given_fields)


@pytest.mark.parametrize("model", RECEIVED)
def test_a_field_that_is_null_has_the_default_that_the_schema_announces(model: type[Received]) -> None:
    for name, hint in get_type_hints(model, include_extras=True).items():
        fillers = [mark.default for mark in getattr(hint, "__metadata__", ()) if isinstance(mark, NullIs)]
        if fillers:
            assert fillers == [model.model_fields[name].default], name


@pytest.mark.parametrize(
    ("field", "bad"),
    [
        ("prompt", 3),
        ("stream", True),
        ("stream", 1.5),
        ("stream", {}),
        ("max_tokens", 0),
        ("max_tokens", "8"),
        ("max_tokens", True),
        ("max_tokens", 8.5),
        ("temperature", -0.1),
        ("temperature", float("inf")),
        ("temperature", float("nan")),
        ("temperature", "1"),
        ("temperature", False),
        ("top_p", 0),
        ("top_p", 1.01),
        ("top_k", -1),
        ("min_p", -0.1),
        ("min_p", 1.1),
        ("repetition_penalty", 0),
        ("presence_penalty", 2.1),
        ("frequency_penalty", -2.1),
        ("logit_bias", {"x": 1}),
        ("logit_bias", {"1": "x"}),
        ("logit_bias", [1]),
        ("seed", -1),
        ("seed", 2**63),
        ("stop", "###"),
        ("stop", [""]),
        ("stop", ["x"] * 17),
        ("stop_tokens", [-1]),
        ("ignore_eos", 1),
        ("skip_special", "no"),
        ("escape_special", "yes"),
        ("logprobs", -1),
        ("logprobs", 21),
        ("priority", "urgent"),
        ("deadline_s", 0),
        ("window", 0),
        ("min_interval_ms", -1),
        ("echo_text", "no"),
        ("max_new_tokens", 8),
    ],
)
def test_a_bad_parameter_of_generate_is_refused_by_name(field: str, bad: Any) -> None:
    assert {loc[0] for loc in locations(GenerateParams, {"stream": "s", **PROMPT, field: bad})} == {field}


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "max_tokens": st.integers(1),
            "temperature": st.floats(0, allow_infinity=False),
            "top_p": st.floats(0, 1, exclude_min=True),
            "top_k": st.integers(0),
            "min_p": st.floats(0, 1),
            "repetition_penalty": st.floats(0, exclude_min=True, allow_infinity=False),
            "presence_penalty": st.floats(-2, 2),
            "frequency_penalty": st.integers(-2, 2),
            "logit_bias": st.dictionaries(st.integers(0, 10**9).map(str), st.floats(-100, 100), max_size=3),
            "seed": st.integers(0, 2**63 - 1),
            "stop": st.lists(st.text(min_size=1), max_size=16),
            "stop_tokens": st.lists(st.integers(0, 2**31 - 1), max_size=5),
            "logprobs": st.integers(0, 20),
            "priority": st.sampled_from(["critical", "high", "normal", "low"]),
            "deadline_s": st.floats(0, exclude_min=True, allow_infinity=False),
            "window": st.integers(1),
            "min_interval_ms": st.integers(0),
            "stream": st.text() | st.integers(),
        },
    )
)
def test_what_generate_takes_comes_out_as_it_went_in(options: dict[str, Any]) -> None:
    params = GenerateParams.parse({"stream": 1, **PROMPT, **options})
    for name, value in options.items():
        assert getattr(params, name) == value
    assert {str(token): bias for token, bias in params.token_bias.items()} == options.get("logit_bias", {})


def test_generate_needs_one_of_prompt_messages_and_tokens() -> None:
    assert locations(GenerateParams, {"model": "pocket"}) == [["prompt"]]


@given(st.lists(st.sampled_from(["prompt", "messages", "tokens"]), min_size=2, unique=True))
def test_generate_refuses_two_kinds_of_prompt_by_name(names: list[str]) -> None:
    values = {"prompt": "Hello", "messages": [{"role": "user", "content": "Hello"}], "tokens": [1]}
    refused = locations(GenerateParams, {"model": "pocket", **{name: values[name] for name in names}})
    assert all(loc[0] in names for loc in refused)
    assert len(refused) == len(names) - 1


@pytest.mark.parametrize(
    ("lonely", "value"),
    [("tools", []), ("template_args", {}), ("window", 1), ("min_interval_ms", 0), ("echo_text", False)],
)
def test_a_parameter_without_the_one_it_belongs_to_is_refused(lonely: str, value: Any) -> None:
    assert locations(GenerateParams, {**PROMPT, lonely: value}) == [[lonely]]


def test_a_message_reaches_the_template_with_exactly_what_the_host_wrote() -> None:
    wire = {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "f"}}], "mood": [1, None]}
    assert Message.parse(wire).for_template() == wire


@pytest.mark.parametrize(
    ("message", "fault"),
    [
        ({"content": "hi"}, ["role"]),
        ({"role": ""}, ["role"]),
        ({"role": "user", "content": 3}, ["content"]),
        ({"role": "user", "content": [{"type": "image_url", "image_url": {}}]}, ["content"]),
        ({"role": "user", "tool_calls": {"function": {}}}, ["tool_calls"]),
    ],
)
def test_a_bad_message_is_named_by_its_place(message: dict[str, Any], fault: list[str]) -> None:
    messages = [{"role": "system", "content": "Be brief."}, message]
    assert locations(GenerateParams, {"model": "pocket", "messages": messages}) == [["messages", 1, *fault]]


def test_a_list_that_is_wrong_a_million_times_is_one_error() -> None:
    assert locations(GenerateParams, {"model": "pocket", "tokens": ["x"] * 1_000_000}) == [["tokens", 0]]


def test_a_message_that_is_wrong_in_many_fields_reports_some_of_them() -> None:
    assert len(locations(LoadParams, {f"unknown{i}": i for i in range(1000)})) == 16


def test_an_error_does_not_repeat_what_the_host_sent() -> None:
    with pytest.raises(InvalidParams) as caught:
        TokenizeParams.parse({"model": "pocket", "text": ["a secret"]})
    assert "secret" not in json.dumps(caught.value.data) + caught.value.message


@pytest.mark.parametrize("name", ["", "a\x00b", "x" * 4097])
def test_a_name_that_no_file_system_takes_is_refused(name: str) -> None:
    assert locations(LoadParams, {"model": name}) == [["model"]]


@pytest.mark.parametrize("id_", ["a", 3, 3.0, 3.5])
def test_any_request_can_be_cancelled_by_its_id(id_: str | int | float) -> None:
    assert CancelRequestParams.parse({"id": id_}).id == id_


@pytest.mark.parametrize("id_", [None, True, [], {}])
def test_what_is_no_id_cancels_nothing(id_: object) -> None:
    assert locations(CancelRequestParams, {"id": id_}) == [["id"]]


def test_initialize_leaves_the_capabilities_of_a_host_alone() -> None:
    params = InitializeParams.parse(
        {"protocol_version": 3, "client": {"name": "host"}, "capabilities": {"any": [1]}, "process_id": None}
    )
    assert (params.capabilities, params.process_id) == ({"any": [1]}, None)


def test_received_messages_cannot_be_changed() -> None:
    params: Any = StreamSubscribeParams.parse({"stream": 1})
    with pytest.raises(ValueError, match="frozen"):
        params.after_seq = 3


def test_a_member_without_a_value_is_not_sent() -> None:
    assert json.loads(Memory(limit_bytes=5).to_json_bytes()) == {"limit_bytes": 5}


def test_a_log_probability_that_is_null_is_minus_infinity() -> None:
    read = TokenLogprob.model_validate_json('{"token": 1, "text": "a", "logprob": null}')
    assert read.logprob == float("-inf")
    assert read.to_plain()["logprob"] is None


@pytest.mark.parametrize("value", [float("inf"), float("-inf"), float("nan")])
def test_a_measure_that_is_no_number_is_sent_as_null(value: float) -> None:
    sent = TokenLogprob(token=1, text="a", logprob=value)
    assert json.loads(sent.to_json_bytes())["logprob"] is None
    assert sent.to_plain()["logprob"] is None


@given(st.lists(st.integers(0, 9), min_size=1, max_size=5), st.booleans())
def test_a_histogram_has_one_count_more_than_bounds(counts: list[int], open_ended: bool) -> None:
    bounds = [float(i) for i in range(len(counts))]
    if open_ended:
        bounds[-1] = float("inf")
    histogram = Histogram.of(zip(bounds, counts, strict=True))
    assert len(histogram.counts) == len(histogram.bounds) + 1
    assert sum(histogram.counts) == sum(counts)


def test_each_method_is_received_or_sent_as_its_direction_says() -> None:
    for spec in METHODS.values():
        assert issubclass(spec.params, Received if spec.direction == "host-to-sidecar" else Sent), spec.name
        assert (spec.result is not None) == (spec.kind == "request"), spec.name
        assert len(set(spec.errors)) == len(spec.errors), spec.name
    assert len(requests()) + len(host_notifications()) + len(own_notifications()) == len(METHODS)


def test_every_model_can_be_built() -> None:
    build_models()
    for model in (*all_models(Received), *all_models(Sent)):
        assert model.model_rebuild(force=True)


def test_every_parameter_and_result_belongs_to_a_method() -> None:
    used = {model.__name__ for spec in METHODS.values() for model in (spec.params, spec.result) if model}
    declared = {
        name
        for module in (operations, generate, cache, notifications)
        for name, value in vars(module).items()
        if isinstance(value, type) and issubclass(value, BaseModel) and name.endswith(("Params", "Result"))
    }
    assert declared <= used


def test_initialize_answers_the_names_of_all_methods_and_parameters() -> None:
    of_hosts = [name for name, spec in METHODS.items() if spec.direction == "host-to-sidecar"]
    assert list(HOST_METHODS) == of_hosts
    assert list(GENERATE_PARAMETERS) == list(generate.GenerateParams.model_fields)


def test_the_package_imports_only_the_standard_library_and_pydantic() -> None:
    allowed = {*sys.stdlib_module_names, "pydantic", "pydantic_core", "mlx_sidecar_protocol"}
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module or ""]
            else:
                continue
            assert {name.split(".")[0] for name in names} <= allowed, f"{path.name}: {names}"


def test_the_package_itself_imports_nothing() -> None:
    code = "import sys, mlx_sidecar_protocol; sys.exit('pydantic' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": str(PACKAGE.parent)})
