"""Tools through the Python client: functions as tools, answers by their channels, and the loop that runs calls."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import quote

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from mlx_sidecar_client import (
    CallDeclined,
    Event,
    ReasoningDelta,
    Sidecar,
    SyncSidecar,
    TextDelta,
    Tool,
    ToolCall,
    ToolCallDelta,
    ToolOutcome,
    run_tools,
    run_tools_sync,
)
from mlx_sidecar_client.parameters import on_the_wire
from mlx_sidecar_client.protocol.functions import content_of

from .support import ENDLESS, FAKE, no_stream_runs, peer

ASKED = [{"role": "user", "content": "How much is it?"}]


def add(a: int, b: Annotated[int, Field(description="the other one")] = 0) -> int:
    """Add two numbers."""
    return a + b


# Scripted answers.


def result(text: str, finish_reason: str, **more: Any) -> dict[str, Any]:
    usage = {"prompt_tokens": 1, "cached_tokens": 0, "cached_by_tier": {"ram": 0, "disk": 0}, "completion_tokens": 1}
    members = {"text": text, "tokens": [], "finish_reason": finish_reason, "usage": usage, "seed": 1, **more}
    return {"jsonrpc": "2.0", "id": "ID", "result": {**members, "timing": {"queue_s": 0}}}


def delta(text: str = "", **more: Any) -> dict[str, Any]:
    params = {"stream": "STREAM", "seq": 0, "offset": 0, "text": text, "tokens": [1], **more}
    return {"jsonrpc": "2.0", "method": "stream/delta", "params": params}


def calls(*named: tuple[str, str]) -> list[dict[str, str]]:
    return [{"id": f"id{number}", "name": name, "arguments": text} for number, (name, text) in enumerate(named)]


def calling(*named: tuple[str, str], **more: Any) -> dict[str, Any]:
    return result("", "tool_calls", tool_calls=calls(*named), **more)


ANSWER = result("It is 5.", "stop")
FIVE = calling(("add", '{"a": 2, "b": 3}'))


# Functions as tools.


def test_a_function_is_described_by_its_signature_and_its_docstring() -> None:
    assert Tool(add).to_plain() == {
        "type": "function",
        "function": {
            "name": "add",
            "description": "Add two numbers.",
            "parameters": {
                "type": "object",
                "properties": {
                    "a": {"type": "integer"},
                    "b": {"type": "integer", "description": "the other one", "default": 0},
                },
                "required": ["a"],
                "additionalProperties": False,
            },
        },
    }


def test_functions_go_over_the_wire_beside_tools_that_are_described_already() -> None:
    plain = {"type": "function", "function": {"name": "f", "strict": True}}
    sent = on_the_wire({"tools": [add, Tool(add, name="plus", description="Sum.", strict=True), plain]})["tools"]
    assert [tool["function"]["name"] for tool in sent] == ["add", "plus", "f"]
    assert (sent[1]["function"]["description"], sent[1]["function"]["strict"]) == ("Sum.", True)
    assert sent[2] is plain
    assert on_the_wire({"tools": None}) == {"tools": None}


def test_parameters_may_have_names_that_fields_cannot_have() -> None:
    def odd(copy: int, json: int, _x: int, model_config: int) -> None: ...

    arguments = {"copy": 1, "json": 2, "_x": 3, "model_config": 4}
    assert Tool(odd).bind(json.dumps(arguments)) == arguments
    assert list(Tool(odd).to_plain()["function"]["parameters"]["properties"]) == list(arguments)


def test_a_function_that_no_model_can_call_is_refused_by_its_parameter() -> None:
    def untyped(a, b: int) -> None: ...  # type: ignore[no-untyped-def]  # noqa: ANN001  # which is the point
    def starred(*a: int) -> None: ...
    def unheard_of(a: threading.Thread) -> None: ...

    with pytest.raises(TypeError, match="untyped: parameter a has no type"):
        Tool(untyped)
    with pytest.raises(TypeError, match=r"starred: parameter \*a"):
        Tool(starred)
    with pytest.raises(TypeError, match="unheard_of: a parameter's type has no JSON Schema"):
        Tool(unheard_of)
    with pytest.raises(TypeError, match="has no name"):
        Tool(lambda: 1)


class Place(BaseModel):
    x: int
    y: int = 7


@dataclass
class Size:
    width: float


@given(st.integers(), st.text(), st.lists(st.floats(allow_nan=False, allow_infinity=False)), st.integers())
def test_arguments_become_values_of_the_types(number: int, text: str, floats: list[float], x: int) -> None:
    def take(
        a: int, b: str, c: list[float], place: Place, size: Size | None = None, kind: Literal["p", "q"] = "p"
    ) -> None: ...

    bound = Tool(take).bind(json.dumps({"a": number, "b": text, "c": floats, "place": {"x": x}}))
    assert bound == {"a": number, "b": text, "c": floats, "place": Place(x=x, y=7)}


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        ("{}", "a: Field required"),
        ('{"a": "two"}', "a: Input should be a valid integer"),
        ('{"a": 1, "c": 2}', "c: Extra inputs"),
        ("[1]", "Input should be an object"),
        ('{"a": 1', "Invalid JSON"),
    ],
)
def test_arguments_of_other_types_are_refused_by_their_names(arguments: str, fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        Tool(add).bind(arguments)


def test_a_model_is_told_texts_as_they_are_and_all_else_as_json() -> None:
    assert content_of('say "hi"') == 'say "hi"'
    assert [content_of(value) for value in (None, [Place(x=1)], Size(2.5))] == [
        "null",
        '[{"x":1,"y":7}]',
        '{"width":2.5}',
    ]


# An answer by its channels.

CHANNELS = [
    delta(reasoning="Let me ", reasoning_offset=0),
    delta(reasoning="add.", reasoning_offset=7),
    delta("Wait: "),
    delta(tool_calls=[{"index": 0, "id": "id0", "name": "add", "arguments": '{"a": '}]),
    delta(tool_calls=[{"index": 0, "arguments": "2}"}]),
    result("Wait: ", "tool_calls", reasoning="Let me add.", tool_calls=calls(("add", '{"a": 2}'))),
]
EVENTS: list[Event] = [
    ReasoningDelta("Let me "),
    ReasoningDelta("add."),
    TextDelta("Wait: "),
    ToolCallDelta(0, "id0", "add", '{"a": '),
    ToolCallDelta(0, "id0", "add", "2}"),
]


@pytest.mark.anyio
async def test_events_are_the_deltas_by_their_channels(tmp_path: Path) -> None:
    async with Sidecar.spawn(**peer(tmp_path, *CHANNELS)) as sidecar:
        stream = sidecar.generate("pocket", messages=ASKED, tools=[add])
        assert [event async for event in stream.events()] == EVENTS
        assert stream.reasoning == stream.result.reasoning == "Let me add."
        (call,) = stream.result.tool_calls or []
        assert (call.name, call.parsed()) == ("add", {"a": 2})


@pytest.mark.anyio
async def test_events_may_be_asked_for_after_deltas_of_the_same_call(tmp_path: Path) -> None:
    async with Sidecar.spawn(**peer(tmp_path, *CHANNELS)) as sidecar:
        stream = sidecar.generate("pocket", messages=ASKED)
        assert [(await anext(stream)).text for _ in range(4)] == ["", "", "Wait: ", ""]
        assert [event async for event in stream.events()] == EVENTS[-1:]


def test_without_an_event_loop_events_are_the_same(tmp_path: Path) -> None:
    with SyncSidecar.spawn(**peer(tmp_path, *CHANNELS)) as sidecar, sidecar.generate("x", messages=ASKED) as stream:
        assert list(stream.events()) == EVENTS
        assert stream.reasoning == "Let me add."


# The loop.


@pytest.mark.anyio
async def test_calls_are_run_and_their_results_told_until_there_is_an_answer(tmp_path: Path) -> None:
    heard: list[Event | ToolOutcome] = []
    asked: list[ToolCall] = []
    both = calling(("add", '{"a": 2, "b": 3}'), ("add", '{"a": 4}'), reasoning="Hm.")
    async with Sidecar.spawn(**peer(tmp_path, delta("no"), both, delta("It is "), ANSWER)) as sidecar:
        run = await run_tools(
            sidecar, "x", messages=ASKED, tools=[add], on_event=heard.append, on_call=lambda call: asked.append(call)
        )
    assert (run.ended, run.text, run.rounds) == ("answered", "It is 5.", 2)
    assert [outcome.content for outcome in run.outcomes] == ["5", "4"]
    assert [outcome.call for outcome in run.outcomes] == asked
    assert heard == [TextDelta("no"), *run.outcomes, TextDelta("It is ")]
    function = {"name": "add", "arguments": '{"a": 2, "b": 3}'}
    assert run.messages[0] == ASKED[0]
    assert run.messages[1]["reasoning_content"] == "Hm."
    assert run.messages[1]["tool_calls"][0] == {"id": "id0", "type": "function", "function": function}
    assert run.messages[2] == {"role": "tool", "tool_call_id": "id0", "name": "add", "content": "5"}
    assert run.messages[-1] == {"role": "assistant", "content": "It is 5."}
    assert len(ASKED) == 1


@pytest.mark.anyio
async def test_functions_may_be_async_and_others_keep_no_stream_waiting(tmp_path: Path) -> None:
    async def double(a: int) -> int:
        await anyio.lowlevel.checkpoint()
        return 2 * a

    def thread(a: int) -> str:
        return f"{a} {threading.current_thread() is threading.main_thread()}"

    async with Sidecar.spawn(
        **peer(tmp_path, calling(("double", '{"a": 4}'), ("thread", '{"a": 1}')), ANSWER)
    ) as sidecar:
        run = await run_tools(sidecar, "x", messages=ASKED, tools=[double, thread])
    assert [outcome.content for outcome in run.outcomes] == ["8", "1 False"]


def fails(a: int) -> None:
    raise ValueError(f"{a} is too much")


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("call", "content", "error"),
    [
        (("fails", '{"a": 9}'), "error: ValueError: 9 is too much", ValueError),
        (("fails", '{"b": 9}'), "error: ValueError: a: Field required; b: Extra inputs", ValueError),
        (("fail", "{}"), "error: LookupError: there is no tool 'fail'; there are: add, fails", LookupError),
    ],
)
async def test_a_call_that_fails_is_told_to_the_model_and_to_the_host(
    tmp_path: Path, call: tuple[str, str], content: str, error: type[Exception]
) -> None:
    async with Sidecar.spawn(**peer(tmp_path, calling(call), ANSWER)) as sidecar:
        run = await run_tools(sidecar, "x", messages=ASKED, tools=[add, fails])
    (outcome,) = run.outcomes
    assert isinstance(outcome.error, error)
    assert outcome.content.startswith(content)
    assert run.messages[-2]["content"] == outcome.content
    assert run.ended == "answered"


@pytest.mark.anyio
async def test_a_call_that_is_declined_does_not_run(tmp_path: Path) -> None:
    async def decline(call: ToolCall) -> bool:
        return call.name != "add"

    async with Sidecar.spawn(**peer(tmp_path, FIVE, ANSWER)) as sidecar:
        run = await run_tools(sidecar, "x", messages=ASKED, tools=[add], on_call=decline)
    assert isinstance(run.outcomes[0].error, CallDeclined)
    assert "does not want" in run.messages[-2]["content"]


@pytest.mark.anyio
async def test_rounds_are_bounded_and_the_end_says_so(tmp_path: Path) -> None:
    async with Sidecar.spawn(**peer(tmp_path, FIVE, FIVE)) as sidecar:
        run = await run_tools(sidecar, "x", messages=ASKED, tools=[add], max_rounds=2)
        assert (run.ended, run.rounds, len(run.outcomes)) == ("max_rounds", 2, 2)
        assert [message["role"] for message in run.messages] == ["user", "assistant", "tool", "assistant", "tool"]
        with pytest.raises(ValueError, match="max_rounds"):
            await run_tools(sidecar, "x", messages=ASKED, tools=[add], max_rounds=0)
        with pytest.raises(ValueError, match="same name"):
            await run_tools(sidecar, "x", messages=ASKED, tools=[add, add])


CUT = [{"text": '<tool_call>\n{"name": "add", "arguments": {"a"', "index": 1, "id": "id1", "name": "add"}]


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("last", "ended"),
    [
        (result("", "length", tool_calls=calls(("add", "{}")), incomplete_tool_calls=CUT), "length"),
        (result("", "deadline"), "deadline"),
        (result("<tool_call>oh", "stop", tool_call_error="it is no JSON"), "tool_call_error"),
        (result("", "stop", incomplete_tool_calls=CUT, tool_call_error="it breaks off"), "tool_call_error"),
    ],
)
async def test_calls_of_an_answer_that_is_not_whole_are_not_run_and_the_end_says_why(
    tmp_path: Path, last: dict[str, Any], ended: str
) -> None:
    async with Sidecar.spawn(**peer(tmp_path, last)) as sidecar:
        run = await run_tools(sidecar, "x", messages=ASKED, tools=[add])
    assert (run.ended, run.outcomes, run.messages) == (ended, [], ASKED)


@pytest.mark.anyio
async def test_cancelling_cancels_the_generation() -> None:
    async with Sidecar.spawn(**FAKE) as sidecar:
        with anyio.CancelScope() as scope:
            await run_tools(sidecar, ENDLESS, messages=ASKED, tools=[add], on_event=lambda _: scope.cancel())
        assert scope.cancelled_caught
        await no_stream_runs(sidecar)


@pytest.mark.anyio
async def test_cancelling_waits_for_no_function_that_runs_in_a_thread(tmp_path: Path) -> None:
    release = threading.Event()

    def waits() -> None:
        release.wait()

    async with Sidecar.spawn(**peer(tmp_path, calling(("waits", "{}")))) as sidecar:
        with anyio.CancelScope() as scope:
            try:
                await run_tools(sidecar, "x", messages=ASKED, tools=[waits], on_call=lambda _: scope.cancel())
            finally:
                release.set()
        assert scope.cancelled_caught


def rounds(sidecar: SyncSidecar, **options: Any) -> list[Any]:
    """The options of each round."""
    sent: list[Any] = []
    generate: Callable[..., Any] = sidecar.generate

    def spy(model: str, **round_: Any) -> Any:
        sent.append(round_)
        return generate(model, **round_)

    sidecar.generate = spy  # type: ignore[method-assign]  # to see what is sent
    run_tools_sync(sidecar, "x", messages=ASKED, tools=[add], **options)
    return sent


@pytest.mark.parametrize(
    ("choice", "sent"),
    [
        ("required", ["required", "auto", "auto"]),
        ({"name": "add"}, [{"name": "add"}, "auto", "auto"]),
        ([{"name": "add"}, "required", "none"], [{"name": "add"}, "required", "none"]),
    ],
)
def test_the_first_rounds_may_be_told_what_to_call(tmp_path: Path, choice: Any, sent: list[Any]) -> None:
    with SyncSidecar.spawn(**peer(tmp_path, FIVE, FIVE, ANSWER)) as sidecar:
        assert [each["tool_choice"] for each in rounds(sidecar, tool_choice=choice)] == sent


def test_a_form_is_asked_for_wherever_an_answer_may_come(tmp_path: Path) -> None:
    form = {"type": "json_object"}
    with SyncSidecar.spawn(**peer(tmp_path, FIVE, FIVE, ANSWER)) as sidecar:
        sent = rounds(sidecar, tool_choice=["required", "none"], response_format=form)
    assert [each.get("response_format") for each in sent] == [None, form, form]


def test_without_an_event_loop_functions_run_in_the_callers_thread(tmp_path: Path) -> None:
    heard: list[Event | ToolOutcome] = []

    def here() -> bool:
        return threading.current_thread() is threading.main_thread()

    async def elsewhere() -> None: ...

    script = peer(tmp_path, calling(("here", "{}"), ("here", "{}")), delta("It"), ANSWER)
    with SyncSidecar.spawn(**script) as sidecar:
        with pytest.raises(TypeError, match="elsewhere is async"):
            run_tools_sync(sidecar, "x", messages=ASKED, tools=[elsewhere])
        agreed = iter([True, False])
        run = run_tools_sync(
            sidecar, "x", messages=ASKED, tools=[here], on_event=heard.append, on_call=lambda _: next(agreed)
        )
    assert (run.ended, run.outcomes[0].content) == ("answered", "true")
    assert isinstance(run.outcomes[1].error, CallDeclined)
    assert heard == [*run.outcomes, TextDelta("It")]


# With the whole sidecar.

CALL = (
    '<think>\nHm.\n</think>\n\nLet me see.\n<tool_call>\n{"name": "add", "arguments": {"a": 2, "b": 3}}\n</tool_call>'
)
AGENT = f"fake?text={quote(CALL)}&then={quote('It is 5.')}"


@pytest.mark.anyio
async def test_a_model_is_told_what_its_call_gave_and_answers() -> None:
    heard: list[Event | ToolOutcome] = []
    async with Sidecar.spawn(**FAKE) as sidecar:
        run = await run_tools(sidecar, AGENT, messages=ASKED, tools=[add], on_event=heard.append)
    assert (run.ended, run.text, run.rounds, run.outcomes[0].content) == ("answered", "It is 5.", 2, "5")
    assert run.messages[1]["reasoning_content"].strip() == "Hm."
    fragments = [event for event in heard if isinstance(event, ToolCallDelta)]
    assert {(event.id, event.name) for event in fragments} == {(run.outcomes[0].call.id, "add")}
    assert "".join(event.arguments for event in fragments) == run.outcomes[0].call.arguments
    assert "".join(event.text for event in heard if isinstance(event, TextDelta)) == "Let me see.It is 5."
    assert heard.index(run.outcomes[0]) > heard.index(fragments[-1])


class Sum(BaseModel):
    euros: int


@pytest.mark.anyio
async def test_the_answer_behind_calls_is_a_value_of_the_type_that_was_asked_for() -> None:
    call, answer = CALL[CALL.index("<tool_call>") :], '{"euros": 5}'
    agent = f"fake?text={quote(call)}&then={quote(answer)}"
    asked: dict[str, Any] = {"messages": ASKED, "tools": [add], "tool_choice": "required", "response_format": Sum}
    async with Sidecar.spawn(**FAKE) as sidecar:
        run = await run_tools(sidecar, agent, **asked)
        assert (run.ended, run.rounds, run.parsed) == ("answered", 2, Sum(euros=5))
        cut = await run_tools(sidecar, agent, **asked, max_rounds=1)
        with pytest.raises(RuntimeError, match="max_rounds"):
            _ = cut.parsed


@pytest.mark.anyio
async def test_a_call_that_max_tokens_cuts_off_is_not_run() -> None:
    async with Sidecar.spawn(**FAKE) as sidecar:
        run = await run_tools(sidecar, AGENT, messages=ASKED, tools=[add], max_tokens=CALL.index("2") + 1)
    assert (run.ended, run.outcomes, run.result.tool_calls) == ("length", [], None)
    (cut,) = run.result.incomplete_tool_calls or []
    assert cut.name == "add"


def test_an_exception_of_the_host_ends_the_generation() -> None:
    def fail(_: object) -> None:
        raise KeyboardInterrupt

    with SyncSidecar.spawn(**FAKE) as sidecar:
        with pytest.raises(KeyboardInterrupt):
            run_tools_sync(sidecar, ENDLESS, messages=ASKED, tools=[add], on_event=fail)
        while sidecar.stats().gauges["streams"]:
            pass
