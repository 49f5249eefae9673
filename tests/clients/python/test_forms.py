"""Answers as values of Python types, through the Python client."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import date
from typing import Any, Literal, assert_type

import pytest
from pydantic import BaseModel, Field, ValidationError, field_validator

from mlx_sidecar_client import IncompleteForm, Sidecar, SyncSidecar
from mlx_sidecar_client.forms import Form, closed
from mlx_sidecar_client.protocol.errors import InvalidParams
from mlx_sidecar_client.protocol.generate_result import FormResult, GenerateResult, Timing, Usage

from .support import FAKE

pytestmark = pytest.mark.anyio


class Address(BaseModel):
    city: str = Field(max_length=20)


class Person(BaseModel):
    name: str = Field(max_length=20)
    born: date
    kind: Literal["cat", "dog"] = "cat"
    homes: list[Address] = []


@dataclass
class Point:
    x: int
    y: int


ADA = 'fake?text={"name": "Ada", "born": "1815-12-10", "kind": "dog", "homes": [{"city": "London"}]}'


@pytest.fixture(scope="module")
async def sidecar() -> AsyncIterator[Sidecar]:
    async with Sidecar.spawn(**FAKE) as sidecar:
        yield sidecar


async def test_an_answer_is_a_value_of_the_type_that_was_asked_for(sidecar: Sidecar) -> None:
    stream = sidecar.generate(ADA, prompt="x", response_format=Person)
    deltas = [delta async for delta in stream]
    person = assert_type(stream.parsed, Person)
    assert person == Person(name="Ada", born=date(1815, 12, 10), kind="dog", homes=[Address(city="London")])
    assert "".join(delta.text for delta in deltas) == stream.result.text


async def test_any_type_whose_values_are_json_can_be_asked_for(sidecar: Sidecar) -> None:
    stream = sidecar.generate('fake?text={"x": 1, "y": -2}', prompt="x", response_format=Point)
    await stream
    assert assert_type(stream.parsed, Point) == Point(1, -2)
    numbers = sidecar.generate("fake?text=[1, 2]", prompt="x", response_format=list[int])
    await numbers
    assert numbers.parsed == [1, 2]


@pytest.mark.parametrize(
    ("form", "text", "value"),
    [
        ({"type": "json_object"}, '{"a": [null]}', {"a": [None]}),
        ({"type": "json_schema", "schema": {"type": "integer"}}, "42", 42),
        ({"type": "choice", "choices": ["yes", "no"]}, "no", "no"),
        ({"type": "regex", "pattern": "[0-9]{2}"}, "42", "42"),
    ],
)
async def test_other_forms_give_what_json_holds_or_the_text(
    sidecar: Sidecar, form: dict[str, Any], text: str, value: Any
) -> None:
    stream = sidecar.generate(f"fake?text={text}", prompt="x", response_format=form)
    await stream
    assert stream.parsed == value


async def test_an_answer_that_was_cut_off_is_not_parsed(sidecar: Sidecar) -> None:
    stream = sidecar.generate(ADA, prompt="x", max_tokens=5, response_format=Person)
    await stream
    with pytest.raises(IncompleteForm, match="length") as caught:
        _ = stream.parsed
    assert caught.value.result.text == '{"nam'


async def test_an_answer_without_a_form_is_not_parsed(sidecar: Sidecar) -> None:
    stream = sidecar.generate("fake?text={}", prompt="x")
    with pytest.raises(RuntimeError, match="not ended"):
        _ = stream.parsed
    await stream
    with pytest.raises(RuntimeError, match="no response_format"):
        _ = stream.parsed


async def test_a_type_that_no_answer_can_be_held_to_is_refused_by_its_keyword(sidecar: Sidecar) -> None:
    class Tags(BaseModel):
        tags: set[str]

    with pytest.raises(InvalidParams, match=r"response_format\.schema\.properties\.tags\.uniqueItems"):
        await sidecar.generate("fake", prompt="x", response_format=Tags)


async def test_a_type_may_ask_more_than_its_schema(sidecar: Sidecar) -> None:
    class Even(BaseModel):
        number: int

        @field_validator("number")
        @classmethod
        def _even(cls, number: int) -> int:
            if number % 2:
                raise ValueError("it is odd")
            return number

    stream = sidecar.generate('fake?text={"number": 3}', prompt="x", response_format=Even)
    await stream
    with pytest.raises(ValidationError, match="odd"):
        _ = stream.parsed


def test_without_an_event_loop_it_is_the_same() -> None:
    with SyncSidecar.spawn(**FAKE) as sidecar, sidecar.generate(ADA, prompt="x", response_format=Person) as stream:
        stream.wait()
        assert assert_type(stream.parsed, Person).name == "Ada"


def result_of(text: str) -> GenerateResult:
    return GenerateResult(
        text=text,
        tokens=[],
        finish_reason="stop",
        response_format=FormResult(complete=True, forced_tokens=0, masked_steps=0),
        usage=Usage.model_construct(),
        timing=Timing.model_construct(),
        seed=1,
    )


@pytest.mark.parametrize("text", ['{"x": 1, "y": 2}', '<think>{"x": 3}?</think>\n\n{"x": 1, "y": 2}'])
def test_reasoning_before_the_form_is_no_part_of_the_value(text: str) -> None:
    assert Form(Point).parsed(result_of(text)) == Point(1, 2)


def test_a_text_in_json_may_hold_the_marker_of_reasoning() -> None:
    asked: Form[Any] = Form({"type": "json_object"})
    assert asked.parsed(result_of('{"a": "b</think>c"}')) == {"a": "b</think>c"}


def test_objects_of_a_type_have_no_other_members() -> None:
    schema = closed({"type": "object", "properties": {"a": {"type": "object", "additionalProperties": True}}})
    assert schema["additionalProperties"] is False
    assert schema["properties"]["a"] == {"type": "object", "additionalProperties": True}
    assert closed({"const": {"type": "object", "properties": {}}}) == {"const": {"type": "object", "properties": {}}}
