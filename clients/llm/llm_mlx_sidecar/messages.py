"""A prompt of ``llm`` as the protocol's messages and parameters."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

import llm
from llm.parts import Message, Part, ReasoningPart, TextPart, ToolCallPart, ToolResultPart


def messages_of(messages: Iterable[Message]) -> list[dict[str, Any]]:
    """The chat. A system message that stands already is not repeated, which ``llm`` does with each turn.

    Raises:
        llm.ModelError: A part is of a kind that no model here can read.
    """
    found: list[dict[str, Any]] = []
    system: str | None = None
    for message in messages:
        if message.role == "system":
            text = _text(message.parts)
            if text == system:
                continue
            system = text
        found += _results(message) if message.role == "tool" else [_message(message)]
    return found


def _results(message: Message) -> Iterator[dict[str, Any]]:
    for part in message.parts:
        if isinstance(part, ToolResultPart):
            yield {"role": "tool", "tool_call_id": part.tool_call_id, "name": part.name, "content": part.output}


def _message(message: Message) -> dict[str, Any]:
    found: dict[str, Any] = {"role": message.role, "content": _text(message.parts)}
    if reasoning := "".join(part.text for part in message.parts if isinstance(part, ReasoningPart)):
        found["reasoning_content"] = reasoning
    if calls := [_call(part) for part in message.parts if isinstance(part, ToolCallPart)]:
        found["tool_calls"] = calls
    return found


def _call(part: ToolCallPart) -> dict[str, Any]:
    named = {"name": part.name, "arguments": json.dumps(part.arguments)}
    return {"id": part.tool_call_id, "type": "function", "function": named}


def _text(parts: Iterable[Part]) -> str:
    texts: list[str] = []
    for part in parts:
        if isinstance(part, TextPart):
            texts.append(part.text)
        elif not isinstance(part, ReasoningPart | ToolCallPart):
            raise llm.ModelError(f"{type(part).__name__}: models of mlx-sidecar read text only")
    return "".join(texts)


def parameters_of(prompt: llm.Prompt) -> dict[str, Any]:
    """Parameters of ``generate``, except the model."""
    options = prompt.options.model_dump(exclude_none=True)
    if isinstance(stop := options.get("stop"), str):
        options["stop"] = [stop]
    # Files and the output of programs are texts of strangers.
    found = {"messages": messages_of(prompt.messages), "escape_special": True, **options}
    if prompt.schema:
        found["response_format"] = {"type": "json_schema", "schema": prompt.schema}
    if prompt.tools:
        found["tools"] = [_tool(tool) for tool in prompt.tools]
    return found


def _tool(tool: Any) -> dict[str, Any]:
    if not isinstance(tool, llm.Tool):
        raise llm.ModelError(f"{tool}: models of mlx-sidecar run no tools of a server")
    described = {"description": tool.description} if tool.description else {}
    return {"type": "function", "function": {"name": tool.name, "parameters": tool.input_schema, **described}}
