"""Models that answer chats, for programs with and without an event loop."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Iterator
from typing import Any

import llm
from llm.parts import StreamEvent
from pydantic import Field

from mlx_sidecar_client import Event, GenerateResult, ReasoningDelta, SyncStream, TextDelta, ToolCallDelta

from .messages import parameters_of
from .running import sidecar


class PromptOptions(llm.Model.Options):
    """Options of a prompt, as the protocol's ``generate`` has them. The sidecar checks their values."""

    max_tokens: int | None = Field(default=None, description="tokens of the answer, at most")
    temperature: float | None = Field(default=None, description="0 takes the likeliest token each time")
    top_p: float | None = Field(default=None, description="the likeliest tokens that have this share together")
    top_k: int | None = Field(default=None, description="so many of the likeliest tokens; 0 is all")
    min_p: float | None = Field(default=None, description="tokens with this share of the likeliest one's probability")
    repetition_penalty: float | None = Field(default=None, description="above 1 for fewer repetitions")
    presence_penalty: float | None = Field(default=None, description="for tokens that are there already")
    frequency_penalty: float | None = Field(default=None, description="the same, for each time that they are there")
    seed: int | None = Field(default=None, description="the same seed gives the same answer")
    stop: str | list[str] | None = Field(default=None, description="where the answer ends, without it")
    reasoning_budget: int | None = Field(default=None, description="tokens of reasoning, at most")
    deadline_s: float | None = Field(default=None, description="seconds after which the answer is cut off")
    escape_special: bool | None = Field(default=None, description="false: texts may become control tokens")
    adapter: str | None = Field(default=None, description="an adapter that is loaded")


class _Shared:
    """Facts and steps that both kinds of model have in common."""

    can_stream = True
    supports_schema = True
    supports_tools = True

    def __init__(self, name: str) -> None:
        self.name = name
        self.model_id = f"mlx-sidecar/{name}"

    def begin(self, prompt: llm.Prompt) -> SyncStream[Any]:
        """The generation, which has not been sent yet."""
        params = parameters_of(prompt)
        return sidecar().generate(self.name, **params)

    @staticmethod
    def end(response: Any, result: GenerateResult) -> None:
        """Tell ``response`` the calls of the answer, and what it has cost."""
        for call in result.tool_calls or ():
            arguments = json.loads(call.arguments)
            response.add_tool_call(llm.ToolCall(name=call.name, arguments=arguments, tool_call_id=call.id))
        usage = result.usage
        details = {"cached_tokens": usage.cached_tokens, "reasoning_tokens": usage.reasoning_tokens or 0}
        told = {name: count for name, count in details.items() if count}
        response.set_usage(input=usage.prompt_tokens, output=usage.completion_tokens, details=told or None)
        response.response_json = {"finish_reason": result.finish_reason, "seed": result.seed}


class _Shown:
    """Events of one answer as ``llm`` has them: the name of each call comes once, before its arguments."""

    def __init__(self, prompt: llm.Prompt) -> None:
        self._hides_reasoning = prompt.hide_reasoning
        self._named: set[str] = set()

    def of(self, event: Event) -> Iterator[StreamEvent]:
        match event:
            case TextDelta(text):
                yield StreamEvent(type="text", chunk=text)
            case ReasoningDelta(text):
                if not self._hides_reasoning:
                    yield StreamEvent(type="reasoning", chunk=text)
            case ToolCallDelta(_, id_, name, arguments):
                if id_ not in self._named:
                    self._named.add(id_)
                    yield StreamEvent(type="tool_call_name", chunk=name, tool_call_id=id_)
                yield StreamEvent(type="tool_call_args", chunk=arguments, tool_call_id=id_)


def _events_of(result: GenerateResult) -> Iterator[Event]:
    if result.reasoning:
        yield ReasoningDelta(result.reasoning)
    if result.text:
        yield TextDelta(result.text)
    for index, call in enumerate(result.tool_calls or ()):
        yield ToolCallDelta(index, call.id, call.name, call.arguments)


def _next(events: Iterator[Event]) -> Event | None:
    return next(events, None)


class SidecarModel(_Shared, llm.Model):
    """A model that the sidecar of this process runs."""

    class Options(PromptOptions):
        """Options of a prompt."""

    def execute(
        self, prompt: llm.Prompt, stream: bool, response: llm.Response, conversation: llm.Conversation | None
    ) -> Iterator[str | StreamEvent]:
        """The answer, in pieces as it is made or, without ``stream``, in one. Leaving the iterator cancels.

        Raises:
            RpcError: The sidecar refused the prompt, or the answer broke off.
        """
        shown = _Shown(prompt)
        with self.begin(prompt) as generation:
            if stream:
                for event in generation.events():
                    yield from shown.of(event)
                result = generation.result
            else:
                result = generation.wait()
                for event in _events_of(result):
                    yield from shown.of(event)
        self.end(response, result)


class AsyncSidecarModel(_Shared, llm.AsyncModel):
    """The same for programs with an event loop. Waiting is done in threads, on the sidecar that all share."""

    class Options(PromptOptions):
        """Options of a prompt."""

    async def execute(
        self,
        prompt: llm.Prompt,
        stream: bool,
        response: llm.AsyncResponse,
        conversation: llm.AsyncConversation | None,
    ) -> AsyncGenerator[str | StreamEvent, None]:
        """As of ``SidecarModel``; cancelling the task cancels the generation."""
        shown = _Shown(prompt)
        generation = await asyncio.to_thread(self.begin, prompt)
        try:
            if stream:
                events = generation.events()
                while (event := await asyncio.to_thread(_next, events)) is not None:
                    for told in shown.of(event):
                        yield told
                result = generation.result
            else:
                result = await asyncio.to_thread(generation.wait)
                for event in _events_of(result):
                    for told in shown.of(event):
                        yield told
        finally:
            generation.leave()
        self.end(response, result)
