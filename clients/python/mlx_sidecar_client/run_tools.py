"""Answers that call functions: generate, run the calls, tell the model their results, until it has answered."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, Unpack, cast

import anyio

from .events import Event
from .forms import Form
from .parameters import RoundOptions, ToolChoice, tool_of
from .protocol.functions import Tool, content_of, content_of_failure
from .protocol.generate_result import GenerateResult
from .protocol.tools import ToolCall
from .sidecar import Sidecar
from .sync import SyncSidecar

Message = Mapping[str, Any]
Ended = Literal["answered", "max_rounds", "tool_call_error", "length", "repeated", "cancelled", "deadline"]


class CallDeclined(Exception):
    """A call that ``on_call`` declined."""


@dataclass(frozen=True)
class ToolOutcome:
    """A call that was dealt with, and ``content``, the result that the model is told.

    ``error`` is set where the function raised it, was not called because there is none of that name or the arguments
    were not of its types, or was declined by ``on_call``.
    """

    call: ToolCall
    content: str
    error: Exception | None = None


@dataclass(frozen=True)
class ToolRun:
    """The end of ``run_tools``.

    ended: ``answered``: the last generation called nothing. ``max_rounds``: it called, and ``messages`` end with the
        results. ``tool_call_error``: it wrote something like a call that is none; ``result`` says why. Otherwise the
        ``finish_reason`` that cut it off; its calls were not run.
    messages: The conversation, in which each call has its result; without an answer that is not whole.
    """

    ended: Ended
    result: GenerateResult
    messages: list[Message]
    outcomes: list[ToolOutcome]
    rounds: int
    form: Form[Any] = field(default_factory=lambda: Form[Any](None), repr=False, compare=False)

    @property
    def text(self) -> str:
        """The text of the last generation."""
        return self.result.text or ""

    @property
    def parsed(self) -> Any:
        """The value that the answer holds, of the type that ``response_format`` names.

        Raises as ``Stream.parsed``, and ``RuntimeError`` where the run did not end with an answer.
        """
        if self.ended in ("max_rounds", "tool_call_error"):
            raise RuntimeError(f"there is no answer to parse: the run ended with {self.ended!r}")
        return self.form.parsed(self.result)


OnEvent = Callable[[Event | ToolOutcome], None]
OnCall = Callable[[ToolCall], bool | None]
OnCallAsync = Callable[[ToolCall], bool | Awaitable[bool | None] | None]


async def run_tools(
    sidecar: Sidecar,
    model: str,
    *,
    messages: Sequence[Message],
    tools: Sequence[Callable[..., Any] | Tool],
    max_rounds: int = 8,
    tool_choice: ToolChoice | Sequence[ToolChoice] = "auto",
    response_format: type[Any] | Mapping[str, Any] | None = None,
    on_event: OnEvent | None = None,
    on_call: OnCallAsync | None = None,
    **options: Unpack[RoundOptions],
) -> ToolRun:
    """Have ``messages`` answered by a model that may call ``tools``, in at most ``max_rounds`` generations.

    ``tool_choice`` is that of the first generation, or of the first ones; later ones are ``auto``. ``on_event`` hears
    of every delta, and of every call when it has its result. ``on_call`` is asked before a call runs, and declines it
    by False. Calls of one generation run one after the other, functions without ``async`` in a thread; a function that
    fails does not end the run, because the model is told of it. ``response_format``, as ``Sidecar.generate`` takes it,
    is the form of an answer that calls nothing, and ``parsed`` of the run its value: generations that must call are
    asked without it.

    Cancelling cancels the generation, or the call that runs (a thread runs on, and its result is dropped). Raises like
    ``Sidecar.generate``.

    Args:
        sidecar: The one that generates.
        model: ``pocket``, a directory, or a hub id.
        messages: The chat until now.
        tools: Functions with typed parameters, or ``Tool``s of them.
        max_rounds: How many generations there are at most.
        tool_choice: Of the first generation, or a list for the first ones.
        response_format: The form of an answer that calls nothing.
        on_event: Called with each event of the streams and with each ``ToolOutcome``.
        on_call: Asked before a call runs; False declines it.
        options: The keys of ``RoundOptions``, for each generation.
    """
    rounds = _Rounds(messages, tools, max_rounds, tool_choice, response_format)
    tell = on_event or _ignore
    while rounds.ended is None:
        async with sidecar.generate(model, **rounds.params, **options) as stream:
            async for event in stream.events():
                tell(event)
        for call in rounds.take(stream.result):
            agreed = None if on_call is None else await _awaited(on_call(call))
            try:
                value = await _called(*rounds.bound(call, agreed))
                outcome = ToolOutcome(call, content_of(value))
            except Exception as error:  # noqa: BLE001  # the model and ``on_event`` are told
                outcome = _failed(call, error)
            rounds.add(outcome)
            tell(outcome)
    return rounds.run()


def run_tools_sync(
    sidecar: SyncSidecar,
    model: str,
    *,
    messages: Sequence[Message],
    tools: Sequence[Callable[..., Any] | Tool],
    max_rounds: int = 8,
    tool_choice: ToolChoice | Sequence[ToolChoice] = "auto",
    response_format: type[Any] | Mapping[str, Any] | None = None,
    on_event: OnEvent | None = None,
    on_call: OnCall | None = None,
    **options: Unpack[RoundOptions],
) -> ToolRun:
    """Do as ``run_tools`` does, without an event loop: functions run in the caller's thread, and none is ``async``.

    An exception of ``on_event`` or ``on_call``, or Ctrl-C, cancels the generation.

    Args:
        sidecar: The one that generates.
        model: ``pocket``, a directory, or a hub id.
        messages: The chat until now.
        tools: Functions with typed parameters, or ``Tool``s of them.
        max_rounds: How many generations there are at most.
        tool_choice: Of the first generation, or a list for the first ones.
        response_format: The form of an answer that calls nothing.
        on_event: Called with each event of the streams and with each ``ToolOutcome``.
        on_call: Asked before a call runs; False declines it.
        options: The keys of ``RoundOptions``, for each generation.
    """
    rounds = _Rounds(messages, tools, max_rounds, tool_choice, response_format)
    rounds.refuse_coroutines()
    tell = on_event or _ignore
    while rounds.ended is None:
        with sidecar.generate(model, **rounds.params, **options) as stream:
            for event in stream.events():
                tell(event)
        for call in rounds.take(stream.result):
            agreed = None if on_call is None else on_call(call)
            try:
                function, arguments = rounds.bound(call, agreed)
                outcome = ToolOutcome(call, content_of(function(**arguments)))
            except Exception as error:  # noqa: BLE001  # the model and ``on_event`` are told
                outcome = _failed(call, error)
            rounds.add(outcome)
            tell(outcome)
    return rounds.run()


class _Rounds:
    """The next step of a run, decided from the results so far; ``ended`` says why nothing does."""

    def __init__(
        self,
        messages: Sequence[Message],
        tools: Sequence[Callable[..., Any] | Tool],
        max_rounds: int,
        tool_choice: ToolChoice | Sequence[ToolChoice],
        response_format: type[Any] | Mapping[str, Any] | None,
    ) -> None:
        if max_rounds < 1:
            raise ValueError("max_rounds must be at least 1")
        self.ended: Ended | None = None
        self._messages = list(messages)
        self._tools = {tool.name: tool for tool in map(tool_of, tools)}
        if len(self._tools) < len(tools):
            raise ValueError("two tools have the same name")
        self._max_rounds = max_rounds
        self._form = Form[Any](response_format)
        self._choices: list[ToolChoice] = [tool_choice] if isinstance(tool_choice, str | Mapping) else list(tool_choice)
        self._outcomes: list[ToolOutcome] = []
        self._results: list[GenerateResult] = []

    def refuse_coroutines(self) -> None:
        """Raise ``TypeError`` for a function that needs an event loop."""
        for tool in self._tools.values():
            if inspect.iscoroutinefunction(tool.function):
                raise TypeError(f"{tool.name} is async: it needs run_tools, and a Sidecar")

    @property
    def params(self) -> dict[str, Any]:
        """The parameters of the next generation."""
        round_ = len(self._results)
        choice: ToolChoice = self._choices[round_] if round_ < len(self._choices) else "auto"
        asked = {"messages": list(self._messages), "tools": list(self._tools.values()), "tool_choice": choice}
        # Where calls must be, no answer has another form, and asking for one would be refused.
        return {**asked, "response_format": self._form.wire} if choice in ("auto", "none") else asked

    def take(self, result: GenerateResult) -> Sequence[ToolCall]:
        """Take the result of a generation; the calls that are to be run."""
        self._results.append(result)
        calls, reason = result.tool_calls or [], result.finish_reason
        if reason not in ("stop", "tool_calls"):
            self.ended = cast(Ended, reason)  # "error" is raised by the stream
        elif result.incomplete_tool_calls or (result.tool_call_error and not calls):
            self.ended = "tool_call_error"
        else:
            self._messages.append(_message(result))
            if not calls:
                self.ended = "answered"
            elif len(self._results) == self._max_rounds:
                self.ended = "max_rounds"
            return calls
        return []

    def bound(self, call: ToolCall, agreed: bool | None) -> tuple[Callable[..., Any], dict[str, Any]]:
        """The function of a call and its arguments. Raises what is wrong with the call."""
        if agreed is False:
            raise CallDeclined("the user does not want this call")
        tool = self._tools.get(call.name)
        if tool is None:
            raise LookupError(f"there is no tool {call.name!r}; there are: {', '.join(self._tools)}")
        return tool.function, tool.bind(call.arguments)

    def add(self, outcome: ToolOutcome) -> None:
        """Tell the model of a call's result."""
        self._outcomes.append(outcome)
        named = {"tool_call_id": outcome.call.id, "name": outcome.call.name}
        self._messages.append({"role": "tool", **named, "content": outcome.content})

    def run(self) -> ToolRun:
        """The run, when it has ended."""
        assert self.ended is not None
        return ToolRun(self.ended, self._results[-1], self._messages, self._outcomes, len(self._results), self._form)


def _message(result: GenerateResult) -> Message:
    """The answer as the next prompt has it."""
    message: dict[str, Any] = {"role": "assistant", "content": result.text or ""}
    if result.reasoning:
        message["reasoning_content"] = result.reasoning
    if result.tool_calls:
        message["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in result.tool_calls
        ]
    return message


def _failed(call: ToolCall, error: Exception) -> ToolOutcome:
    return ToolOutcome(call, content_of_failure(error), error)


async def _called(function: Callable[..., Any], arguments: Mapping[str, Any]) -> Any:
    if inspect.iscoroutinefunction(function):
        return await function(**arguments)
    return await anyio.to_thread.run_sync(partial(function, **arguments), abandon_on_cancel=True)


async def _awaited(value: bool | Awaitable[bool | None] | None) -> bool | None:
    return await value if inspect.isawaitable(value) else value


def _ignore(_: object) -> None:
    """An ``on_event`` that hears nothing."""
