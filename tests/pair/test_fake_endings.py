"""A fake chat whose script does not fit its form, or its required call, comes to its end all the same."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlx_sidecar.front.output.formats import table
from tests.support.host import Frame
from tests.support.pair import Pair, pair

NOTE = {
    "type": "object",
    "properties": {"text": {"type": "string"}, "count": {"type": "integer"}},
    "required": ["text", "count"],
    "additionalProperties": False,
}
FORMS: list[dict[str, Any]] = [{"type": "json_schema", "schema": NOTE}, {"type": "json_object"}]
LOOK = {"type": "function", "function": {"name": "look", "parameters": NOTE}}
# Plain words; reasoning that does not end; the beginnings of markers; nothing.
SCRIPTS = ["hello", "<think>abc", "<think>", "<thi", "a < b", ""]


@pytest.fixture(scope="module")
def sidecar() -> Iterator[Pair]:
    with pair() as process:
        yield process


def chat(sidecar: Pair, script: str, **params: Any) -> Frame:
    model = f"fake?text={''.join(f'%{byte:02x}' for byte in script.encode())}"
    messages = [{"role": "user", "content": "Hello"}]
    return sidecar.call("generate", {"model": model, "messages": messages, "max_tokens": 1000, **params})


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize("form", FORMS, ids=["schema", "object"])
def test_a_chat_has_the_form_and_reasons_only_if_its_script_does(
    sidecar: Pair, form: dict[str, Any], script: str
) -> None:
    result = chat(sidecar, script, response_format=form)
    assert (result["finish_reason"], result["response_format"]["complete"]) == ("stop", True)
    jsonschema.validate(json.loads(result["text"]), form.get("schema", {"type": "object"}))
    assert result.get("reasoning") == ("abc" if "abc" in script else None)


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize("name", [tool_format.name for tool_format in table.TOOL_FORMATS])
def test_a_required_call_is_whole_in_each_format(sidecar: Pair, name: str, script: str) -> None:
    result = chat(sidecar, script, tools=[LOOK], tool_choice="required", tool_format=name)
    assert result["finish_reason"] == "tool_calls"
    assert [call["name"] for call in result["tool_calls"]] == ["look"]
    jsonschema.validate(json.loads(result["tool_calls"][0]["arguments"]), NOTE)


@given(script=st.text(st.sampled_from('a<>/thinkcod"{}\\é \n'), max_size=30), form=st.sampled_from(FORMS))
def test_whatever_the_script_says_the_form_comes_to_its_end(sidecar: Pair, script: str, form: dict[str, Any]) -> None:
    result = chat(sidecar, script, response_format=form)
    assert result["response_format"]["complete"]
    assert isinstance(json.loads(result["text"]), dict)


@pytest.mark.parametrize("at", [3, 12, 16, 20])
def test_the_way_to_the_end_is_the_same_after_the_death_of_the_engine(at: int) -> None:
    params: dict[str, Any] = {
        "messages": [{"role": "user", "content": "Hello"}],
        "response_format": FORMS[0],
        "max_tokens": 500,
    }
    with pair() as process:
        whole = process.call("generate", {**params, "model": "fake?text=<think>abc"})
        resumed = process.call("generate", {**params, "model": f"fake?text=<think>abc&crash_after={at}"})
    assert (resumed["text"], resumed["reasoning"]) == (whole["text"], whole["reasoning"])
