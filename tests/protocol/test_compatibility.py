"""Comparing two contracts calls every change breaking that would break a host of the older one."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from mlx_sidecar_protocol.compatibility import changes, main
from mlx_sidecar_protocol.schema_changes import Change, Comparison, Severity, Way
from tests.support.frames import SCHEMAS, committed

Schema = dict[str, Any]
BREAKING, ADDITIVE, EDITORIAL = Severity
WAYS: list[Way] = ["received", "sent"]
BUNDLE = committed("mlx-sidecar.schema.json")
INDEX = committed("methods.json")


def compared(old: Any, new: Any, way: Way, **definitions: Any) -> list[Change]:
    """Return the differences of two schemas; ``definitions`` are in both bundles."""
    return Comparison({"X": old, **definitions}, {"X": new, **definitions}, way, set()).definitions("X", "X")


def worst(found: list[Change]) -> Severity | None:
    return min((change.severity for change in found), key=list(Severity).index, default=None)


def closed(required: list[str] | None = None, **properties: Any) -> Schema:
    return {"type": "object", "properties": properties, "required": required or [], "additionalProperties": False}


TEXT, WHOLE, NULL = {"type": "string"}, {"type": "integer"}, {"type": "null"}
MAP_OF_WHOLE = {"type": "object", "additionalProperties": WHOLE}

# Old schema, new schema, the verdict if the host sends it, the verdict if the sidecar does.
CASES: dict[str, tuple[Any, Any, Severity | None, Severity | None]] = {
    "the same": (TEXT, TEXT, None, None),
    "a description": ({**TEXT, "description": "a"}, {**TEXT, "description": "b"}, EDITORIAL, EDITORIAL),
    "a title": ({**TEXT, "title": "A"}, TEXT, EDITORIAL, EDITORIAL),
    "another default": ({**WHOLE, "default": 0}, {**WHOLE, "default": 1}, BREAKING, BREAKING),
    "a default that is false and no longer 0": ({"default": 0}, {"default": False}, BREAKING, BREAKING),
    "an optional property": (closed(), closed(a=TEXT), ADDITIVE, ADDITIVE),
    "a required property": (closed(), closed(["a"], a=TEXT), BREAKING, ADDITIVE),
    "a property less": (closed(a=TEXT), closed(), BREAKING, BREAKING),
    "a property less where others are taken": (
        {"properties": {"a": TEXT}},
        {"properties": {}},
        BREAKING,
        BREAKING,
    ),
    "a property among others": ({"type": "object"}, {"type": "object", "properties": {"a": TEXT}}, BREAKING, ADDITIVE),
    "a property among others of a type": (
        MAP_OF_WHOLE,
        {**MAP_OF_WHOLE, "properties": {"a": TEXT}},
        BREAKING,
        BREAKING,
    ),
    "required from now on": (closed(a=TEXT), closed(["a"], a=TEXT), BREAKING, ADDITIVE),
    "required no longer": (closed(["a"], a=TEXT), closed(a=TEXT), ADDITIVE, BREAKING),
    "an unlisted member required no longer": ({"required": ["a"]}, {}, ADDITIVE, BREAKING),
    "other members taken": (closed(), {**closed(), "additionalProperties": True}, ADDITIVE, ADDITIVE),
    "other members refused": ({**closed(), "additionalProperties": True}, closed(), BREAKING, ADDITIVE),
    "other members of a type": ({"type": "object"}, MAP_OF_WHOLE, BREAKING, ADDITIVE),
    "other members of any type": (MAP_OF_WHOLE, {"type": "object"}, ADDITIVE, BREAKING),
    "a map closed": (MAP_OF_WHOLE, {**MAP_OF_WHOLE, "additionalProperties": False}, BREAKING, BREAKING),
    "a map of a wider type": (
        MAP_OF_WHOLE,
        {"type": "object", "additionalProperties": {"type": "number"}},
        ADDITIVE,
        BREAKING,
    ),
    "keys by a pattern": ({"patternProperties": {"^a": TEXT}}, {"patternProperties": {"^b": TEXT}}, BREAKING, BREAKING),
    "a wider type": (WHOLE, {"type": "number"}, ADDITIVE, BREAKING),
    "a narrower type": ({"type": "number"}, WHOLE, BREAKING, ADDITIVE),
    "another type": (WHOLE, TEXT, BREAKING, BREAKING),
    "a list of types": (TEXT, {"type": ["string", "null"]}, ADDITIVE, BREAKING),
    "any type": (TEXT, {}, ADDITIVE, BREAKING),
    "true in place of a schema": (TEXT, True, ADDITIVE, BREAKING),
    "false in place of a schema": (TEXT, False, BREAKING, BREAKING),
    "a constant": ({"const": 1}, {"const": 2}, BREAKING, BREAKING),
    "a constant of another type": ({"const": 1}, {"const": True}, BREAKING, BREAKING),
    "a value more": ({"enum": ["a"]}, {"enum": ["b", "a"]}, ADDITIVE, BREAKING),
    "a value less": ({"enum": ["a", "b"]}, {"const": "a"}, BREAKING, ADDITIVE),
    "a higher minimum": ({**WHOLE, "minimum": 0}, {**WHOLE, "minimum": 1}, BREAKING, ADDITIVE),
    "a lower minimum": ({**WHOLE, "minimum": 0}, {**WHOLE, "minimum": -1}, ADDITIVE, BREAKING),
    "no minimum any more": ({**WHOLE, "minimum": 0}, WHOLE, ADDITIVE, BREAKING),
    "a higher maximum": ({**WHOLE, "maximum": 0}, {**WHOLE, "maximum": 1}, ADDITIVE, BREAKING),
    "a maximum": (WHOLE, {**WHOLE, "maximum": 1}, BREAKING, ADDITIVE),
    "a bound that is excluded": ({"minimum": 0}, {"exclusiveMinimum": 0}, BREAKING, BREAKING),
    "a longer text": ({**TEXT, "maxLength": 8}, {**TEXT, "maxLength": 9}, ADDITIVE, BREAKING),
    "a shorter list": ({"type": "array", "maxItems": 9}, {"type": "array", "maxItems": 8}, BREAKING, ADDITIVE),
    "a pattern": (TEXT, {**TEXT, "pattern": "a"}, BREAKING, ADDITIVE),
    "another pattern": ({**TEXT, "pattern": "a"}, {**TEXT, "pattern": "b"}, BREAKING, BREAKING),
    "elements of a wider type": ({"items": WHOLE}, {"items": {"type": "number"}}, ADDITIVE, BREAKING),
    "elements of any type": ({"items": WHOLE}, {}, ADDITIVE, BREAKING),
    "an alternative more": (TEXT, {"anyOf": [TEXT, NULL]}, ADDITIVE, BREAKING),
    "an alternative less": ({"anyOf": [TEXT, NULL]}, TEXT, BREAKING, ADDITIVE),
    "alternatives in another order": ({"anyOf": [TEXT, NULL]}, {"anyOf": [NULL, TEXT]}, None, None),
    "an alternative that is wider": (
        {"anyOf": [WHOLE, NULL]},
        {"anyOf": [{"type": "number"}, NULL]},
        ADDITIVE,
        BREAKING,
    ),
    "what a reference stands for": (closed(a={"$ref": "#/$defs/Text"}), closed(a=TEXT), None, None),
    "a keyword that is unknown here": (TEXT, {**TEXT, "not": {"const": "a"}}, BREAKING, BREAKING),
    "a bound beside alternatives": (
        {"anyOf": [TEXT, NULL], "minLength": 1},
        {"anyOf": [TEXT, NULL], "minLength": 0},
        ADDITIVE,
        BREAKING,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_difference_is_what_it_is_for_whoever_sends(name: str) -> None:
    old, new, received, sent = CASES[name]
    found = {way: compared(old, new, way, Text=TEXT) for way in WAYS}
    assert {way: worst(changes) for way, changes in found.items()} == {"received": received, "sent": sent}, found


def test_a_change_says_where_it_is() -> None:
    old = closed(stop={"type": "array", "items": TEXT}, tools={"additionalProperties": TEXT})
    new = closed(stop={"type": "array", "items": WHOLE}, tools={"additionalProperties": WHOLE})
    assert [change.place for change in compared(old, new, "sent")] == ["X.stop[]", "X.tools{}"]


def test_a_change_in_what_is_referred_to_is_found_behind_every_keyword() -> None:
    refers = closed(a={"not": {"items": {"$ref": "#/$defs/Y"}}})
    comparison = Comparison({"X": refers, "Y": TEXT}, {"X": refers, "Y": WHOLE}, "received", set())
    assert worst(comparison.definitions("X", "X")) is BREAKING


def test_a_definition_that_holds_itself_is_compared_once() -> None:
    def tree(value: Schema) -> Schema:
        return closed(value=value, children={"type": "array", "items": {"$ref": "#/$defs/X"}})

    (change,) = compared(tree(WHOLE), tree({"type": "number"}), "received")
    assert (change.place, change.severity) == ("X.value", ADDITIVE)


# Whole contracts.


class Draft:
    """The committed contract, to be altered."""

    def __init__(self) -> None:
        self.bundle: Schema = copy.deepcopy(BUNDLE)
        self.index: Schema = copy.deepcopy(INDEX)
        self.definitions: Schema = self.bundle["$defs"]

    def method(self, name: str) -> Schema:
        return next(entry for entry in self.index["methods"] if entry["name"] == name)

    def error(self, kind: str) -> Schema:
        return next(entry for entry in self.index["errors"] if entry["kind"] == kind)

    def changes(self) -> list[Change]:
        return changes(BUNDLE, self.bundle, INDEX, self.index)

    def rename(self, old: str, new: str) -> None:
        self.bundle = json.loads(
            json.dumps(self.bundle).replace(f'"{old}"', f'"{new}"').replace(f'/{old}"', f'/{new}"')
        )
        self.index = json.loads(json.dumps(self.index).replace(f'/{old}"', f'/{new}"'))


def test_the_same_contract_does_not_differ() -> None:
    assert Draft().changes() == []


def new_entry(name: str, direction: str, kind: str) -> Schema:
    params = {"$ref": "mlx-sidecar.schema.json#/$defs/NoParams"}
    return {**INDEX["methods"][0], "name": name, "direction": direction, "kind": kind, "params": params}


@pytest.mark.parametrize(
    ("direction", "kind", "severity"),
    [
        ("host-to-sidecar", "request", ADDITIVE),
        ("host-to-sidecar", "notification", ADDITIVE),
        ("sidecar-to-host", "notification", ADDITIVE),
        ("sidecar-to-host", "request", BREAKING),
    ],
)
def test_a_new_method_is_additive_unless_hosts_would_have_to_answer(
    direction: str, kind: str, severity: Severity
) -> None:
    draft = Draft()
    draft.index["methods"].append(new_entry("new/one", direction, kind))
    assert [(change.place, change.severity) for change in draft.changes()] == [("new/one", severity)]


def test_a_method_that_is_gone_is_breaking_whoever_used_it() -> None:
    for name in ("render", "stream/interrupted"):
        draft = Draft()
        draft.index["methods"].remove(draft.method(name))
        assert worst(draft.changes()) is BREAKING


@pytest.mark.parametrize(
    ("member", "value", "severity"),
    [
        ("direction", "sidecar-to-host", BREAKING),
        ("kind", "notification", BREAKING),
        ("result", None, BREAKING),
        ("summary", "in other words", EDITORIAL),
        ("since", "2", EDITORIAL),
        ("something new", 1, BREAKING),
    ],
)
def test_what_is_said_of_a_method_is_looked_at(member: str, value: Any, severity: Severity) -> None:
    draft = Draft()
    draft.method("tokenize")[member] = value
    assert worst(draft.changes()) is severity


def test_errors_may_be_added_but_keep_their_codes() -> None:
    draft = Draft()
    draft.method("ping")["errors"].append({"code": -32002, "kind": "shutting_down"})
    draft.method("load")["errors"].pop()
    draft.index["errors"].append({**draft.error("cancelled"), "kind": "weary"})
    assert {change.severity for change in draft.changes()} == {ADDITIVE}
    assert len(draft.changes()) == 3


@pytest.mark.parametrize(("member", "value"), [("code", -32099), ("retryable", True), ("advice", "wait")])
def test_what_programs_react_to_in_an_error_stays(member: str, value: Any) -> None:
    draft = Draft()
    draft.error("shutting_down")[member] = value
    assert worst(draft.changes()) is BREAKING


def test_an_error_that_is_gone_is_breaking() -> None:
    draft = Draft()
    draft.index["errors"].remove(draft.error("poison_request"))
    assert worst(draft.changes()) is BREAKING


@pytest.mark.parametrize(
    ("definition", "name", "severity"),
    [
        ("GenerateParams", "mood", ADDITIVE),
        ("GenerateResult", "mood", ADDITIVE),
        ("StreamDelta", "mood", ADDITIVE),
        ("Timing", "mood", ADDITIVE),
        ("ClientInfo", "mood", ADDITIVE),
        ("Message", "mood", BREAKING),  # the message takes any member already, of any type
    ],
)
def test_an_optional_member_anywhere_is_additive(definition: str, name: str, severity: Severity) -> None:
    draft = Draft()
    draft.definitions[definition]["properties"][name] = TEXT
    assert [(change.place, change.severity) for change in draft.changes()] == [(f"{definition}.{name}", severity)]


def test_data_of_an_error_is_something_that_is_sent() -> None:
    draft = Draft()
    draft.definitions["Overloaded"]["properties"]["data"]["required"].remove("retry_after_s")
    assert [str(change) for change in draft.changes()] == [
        "breaking  Overloaded.data.retry_after_s: need not be there: wider"
    ]


def test_a_value_more_in_what_is_sent_is_breaking_and_in_what_is_received_additive() -> None:
    draft = Draft()
    draft.definitions["GenerateResult"]["properties"]["finish_reason"]["enum"].append("tired")
    assert worst(draft.changes()) is BREAKING
    draft = Draft()
    draft.definitions["LoadParams"]["properties"]["dtype"]["anyOf"][0]["enum"].append("float8")
    assert worst(draft.changes()) is ADDITIVE


def test_a_frame_that_is_wrapped_otherwise_is_breaking() -> None:
    for definition in ("PingRequest", "StreamDeltaNotification", "SuccessResponse", "ErrorResponse", "Batch"):
        draft = Draft()
        draft.definitions[definition] = {**draft.definitions[definition], "not": {"required": ["trace"]}}
        assert worst(draft.changes()) is BREAKING, definition


def test_parameters_that_need_not_be_there_stay_so() -> None:
    draft = Draft()
    draft.definitions["ModelsRequest"]["required"].append("params")
    assert [change.place for change in draft.changes()] == ["ModelsRequest.params"]
    assert worst(draft.changes()) is BREAKING


def test_another_name_for_a_definition_is_additive() -> None:
    draft = Draft()
    draft.rename("GenerateResult", "Generated")
    assert worst(draft.changes()) is ADDITIVE
    assert "is called Generated now" in str(draft.changes()[0])


def test_a_definition_that_nobody_refers_to_may_not_change_unseen() -> None:
    old, new = Draft(), Draft()
    old.definitions["Loose"], new.definitions["Loose"] = TEXT, WHOLE
    assert worst(changes(old.bundle, new.bundle, INDEX, INDEX)) is BREAKING
    assert worst(changes(old.bundle, BUNDLE, INDEX, INDEX)) is BREAKING
    assert worst(changes(BUNDLE, new.bundle, INDEX, INDEX)) is ADDITIVE


def test_what_stands_beside_all_this_is_not_passed_over() -> None:
    draft = Draft()
    draft.bundle["$schema"] = "another dialect"
    assert worst(draft.changes()) is BREAKING
    draft = Draft()
    draft.index["framings"] = ["lines"]
    assert worst(draft.changes()) is BREAKING


# The command.


def write(directory: Path, draft: Draft, version: int) -> Path:
    directory.mkdir()
    (directory / "mlx-sidecar.schema.json").write_text(json.dumps(draft.bundle))
    (directory / "methods.json").write_text(json.dumps({**draft.index, "protocol_version": version}))
    return directory


def test_the_committed_schemas_serve_hosts_of_the_released_ones() -> None:
    assert main(["--released", str(SCHEMAS / "released"), "--schemas", str(SCHEMAS)]) == 0


@pytest.mark.parametrize(("version", "status"), [(1, 1), (2, 0)])
def test_a_breaking_change_asks_for_another_version(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], version: int, status: int
) -> None:
    draft = Draft()
    del draft.definitions["GenerateParams"]["properties"]["top_k"]
    draft.method("ping")["summary"] = "Still there?"
    directories = [
        *("--released", str(write(tmp_path / "old", Draft(), 1))),
        *("--schemas", str(write(tmp_path / "new", draft, version))),
    ]
    assert main(directories) == status
    told = capsys.readouterr()
    assert told.out.splitlines() == ["breaking  GenerateParams.top_k: is gone", "editorial ping: summary differs"]
    assert ("version 1 must become 2" in told.err) == (status == 1)


# A change that is not called breaking breaks no host.

VALUES = st.sampled_from([None, True, 0, 1, -3, 7, 2.5, "", "a", "bb", [], [1], ["a", None], {}, {"a": 1}, {"b": "x"}])
LEAVES: st.SearchStrategy[Schema] = st.one_of(
    st.sampled_from(["string", "integer", "number", "boolean", "null", "array", "object"]).map(
        lambda name: {"type": name}
    ),
    st.lists(VALUES, min_size=1, max_size=3).map(lambda values: {"enum": values}),
    st.fixed_dictionaries({}, optional={"minimum": st.integers(-4, 4), "maximum": st.integers(-4, 8)}),
    st.fixed_dictionaries(
        {"type": st.just("string")},
        optional={
            "minLength": st.integers(0, 2),
            "maxLength": st.integers(0, 2),
            "pattern": st.sampled_from(["a", "b"]),
        },
    ),
    st.sampled_from([{"$ref": "#/$defs/Small"}, {"not": {"type": "string"}}, {}, {"const": 1}]),
)


def _object(inner: st.SearchStrategy[Schema]) -> st.SearchStrategy[Schema]:
    return st.fixed_dictionaries(
        {"type": st.just("object")},
        optional={
            "properties": st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
            "required": st.lists(st.sampled_from("abc"), unique=True, max_size=2),
            "additionalProperties": st.booleans() | inner,
            "maxProperties": st.integers(0, 3),
        },
    )


SCHEMA: st.SearchStrategy[Schema] = st.recursive(
    LEAVES,
    lambda inner: (
        _object(inner)
        | st.fixed_dictionaries({"items": inner}, optional={"maxItems": st.integers(0, 2), "type": st.just("array")})
        | st.fixed_dictionaries({"anyOf": st.lists(inner, min_size=1, max_size=3)}, optional={"minimum": st.just(0)})
        | st.builds(lambda one, other: {**one, "anyOf": [other]}, _object(inner), inner)
    ),
    max_leaves=6,
)
ANY = st.recursive(
    VALUES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abcd"), inner, max_size=3),
    max_leaves=5,
)
SMALL = {"type": "integer", "minimum": 0}


@st.composite
def altered(draw: st.DrawFn, schema: Schema) -> Schema:
    """Draw ``schema`` with one part replaced."""
    if not schema or draw(st.integers(0, 3)) == 0:
        return draw(SCHEMA)
    keyword = draw(st.sampled_from(sorted(schema)))
    value = schema[keyword]
    if draw(st.integers(0, 4)) == 0:
        return {key: part for key, part in schema.items() if key != keyword}
    if keyword in ("items", "additionalProperties") and isinstance(value, dict):
        return {**schema, keyword: draw(altered(value))}
    if keyword == "properties" and value:
        name = draw(st.sampled_from(sorted(value)))
        return {**schema, keyword: {**value, name: draw(altered(value[name]))}}
    if keyword == "anyOf":
        at = draw(st.integers(0, len(value) - 1))
        return {**schema, keyword: [*value[:at], draw(altered(value[at])), *value[at + 1 :]]}
    return {**schema, **{key: part for key, part in draw(SCHEMA).items() if key == keyword or key not in schema}}


def validator(schema: Schema) -> Draft202012Validator:
    return Draft202012Validator({**schema, "$defs": {"Small": SMALL}})


def opened(schema: Any) -> Any:
    """Return ``schema`` for a reader that ignores unknown members."""
    if isinstance(schema, list):
        return [opened(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: part if key in ("enum", "const", "not") else opened(part)
        for key, part in schema.items()
        if not (key == "additionalProperties" and part is False) and key != "maxProperties"
    }


def holds(data: st.DataObject, way: Way) -> None:
    """Check that values of the writer's schema fit the reader's, unless the difference is called breaking."""
    old = data.draw(SCHEMA)
    new = data.draw(altered(old))
    assume(worst(compared(old, new, way, Small=SMALL)) is not BREAKING)
    writes, reads = (old, new) if way == "received" else (new, opened(old))
    writer, reader = validator(writes), validator(reads)
    for value in data.draw(st.lists(ANY, min_size=10, max_size=10)):
        assert reader.is_valid(value) or not writer.is_valid(value), (writes, reads, value)


@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(st.data())
def test_what_older_hosts_send_is_taken_after_any_change_that_is_not_breaking(data: st.DataObject) -> None:
    holds(data, "received")


@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(st.data())
def test_what_is_sent_is_understood_by_older_hosts_after_any_change_that_is_not_breaking(data: st.DataObject) -> None:
    holds(data, "sent")


@given(SCHEMA, st.sampled_from(WAYS))
def test_a_schema_does_not_differ_from_itself(schema: Schema, way: Way) -> None:
    assert compared(schema, copy.deepcopy(schema), way, Small=SMALL) == []
