"""Requests for a server that speaks Anthropic's Messages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import orjson

from mlx_sidecar_client.protocol.errors import UnsupportedParameter

from ..surfaces.faults import Refused
from .capabilities import Wish, schema_of
from .table import UpstreamProvider

PATH: Final = "/v1/messages"
VERSION: Final = "2023-06-01"

_SAME_NAME: Final = ("temperature", "top_k", "top_p")
_EFFORTS: Final = frozenset({"low", "medium", "high", "max"})
_MODES: Final = {"auto": "auto", "none": "none", "required": "any"}


def body_of(settings: UpstreamProvider, model: str, wish: Wish, provider: str) -> dict[str, Any]:
    """The body of a streamed request. Raises ``Refused`` and ``UnsupportedParameter`` naming what has no place."""
    options = wish.options
    system, messages = _chat(options["messages"], keeps_reasoning="reasoning_content" in settings.honoured)
    body: dict[str, Any] = {"model": model, "stream": True, "messages": messages}
    body["max_tokens"] = options.get("max_tokens", settings.max_tokens)
    if system:
        body["system"] = system
    body |= {name: options[name] for name in _SAME_NAME if name in options}
    if body.get("temperature", 0) > 1:
        raise UnsupportedParameter("temperature", f"the provider {provider!r} takes 1 at most")
    if "stop" in options:
        body["stop_sequences"] = options["stop"]
    return body | _tools(options) | _form(options, wish, provider) | _thinking(options, wish)


def _tools(options: Mapping[str, Any]) -> dict[str, Any]:
    if "tools" not in options:
        return {}
    told: dict[str, Any] = {"tools": [_tool(tool) for tool in options["tools"]]}
    choice = options.get("tool_choice", "auto")
    asked: dict[str, Any] = (
        {"type": "tool", "name": choice["name"]} if isinstance(choice, Mapping) else {"type": _MODES[choice]}
    )
    if options.get("parallel_tool_calls") is False and asked["type"] != "none":
        asked["disable_parallel_tool_use"] = True
    return told | ({"tool_choice": asked} if asked != {"type": "auto"} else {})


def _tool(tool: Mapping[str, Any]) -> dict[str, Any]:
    function = tool.get("function", tool)
    told = {"name": function.get("name"), "input_schema": function.get("parameters") or {"type": "object"}}
    return told | {name: function[name] for name in ("description", "strict") if function.get(name)}


def _form(options: Mapping[str, Any], wish: Wish, provider: str) -> dict[str, Any]:
    config: dict[str, Any] = {}
    form = options.get("response_format")
    if form is not None and form.get("type") != "text":
        if (schema := schema_of(form)) is None or "whitespace" in form:
            raise UnsupportedParameter("response_format", f"the provider {provider!r} takes a schema alone")
        config["format"] = {"type": "json_schema", "schema": schema}
    if wish.effort is not None and wish.effort != "none":
        if wish.effort not in _EFFORTS:
            raise UnsupportedParameter("reasoning_effort", f"the provider {provider!r} knows no effort {wish.effort!r}")
        config["effort"] = wish.effort
    return {"output_config": config} if config else {}


def _thinking(options: Mapping[str, Any], wish: Wish) -> dict[str, Any]:
    budget = options.get("reasoning_budget")
    if wish.thinks is False or wish.effort == "none" or budget == 0:
        return {"thinking": {"type": "disabled"}}
    if budget is not None:
        return {"thinking": {"type": "enabled", "budget_tokens": budget}}
    return {"thinking": {"type": "adaptive"}} if wish.thinks else {}


# The chat.


def _chat(messages: list[Mapping[str, Any]], *, keeps_reasoning: bool) -> tuple[str, list[dict[str, Any]]]:
    """The system prompt, and the turns: results of tools stand in those of the user."""
    first = next((number for number, each in enumerate(messages) if each["role"] != "system"), len(messages))
    system = "\n\n".join(filter(None, (_text(message) for message in messages[:first])))
    turns: list[dict[str, Any]] = []
    for number, message in enumerate(messages[first:], first):
        role, blocks = _blocks(number, message, keeps_reasoning=keeps_reasoning)
        if not blocks:
            continue
        if turns and turns[-1]["role"] == role:
            turns[-1]["content"] += blocks
        else:
            turns.append({"role": role, "content": blocks})
    return system, turns


def _blocks(number: int, message: Mapping[str, Any], *, keeps_reasoning: bool) -> tuple[str, list[dict[str, Any]]]:
    role, text = message["role"], _text(message)
    said = [{"type": "text", "text": text}] if text else []
    match role:
        case "user":
            return role, said
        case "assistant":
            thought = message.get("reasoning_content") if keeps_reasoning else None
            thinking = [{"type": "thinking", "thinking": thought, "signature": ""}] if thought else []
            calls = message.get("tool_calls") or []
            return role, [*thinking, *said, *(_call(number, at, call) for at, call in enumerate(calls))]
        case "tool":
            result = {"type": "tool_result", "tool_use_id": message.get("tool_call_id", ""), "content": text}
            return "user", [result | ({"is_error": True} if message.get("is_error") else {})]
        case _:
            because = f"{role!r} cannot stand here, because the provider takes system messages at the beginning alone"
            raise Refused.parameter(f"messages.{number}.role", because, "unsupported_parameter")


def _call(number: int, at: int, call: Mapping[str, Any]) -> dict[str, Any]:
    function = call.get("function")
    place = f"messages.{number}.tool_calls.{at}"
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise Refused.parameter(place, "must be a call of a function")
    arguments = function.get("arguments") or {}
    try:
        value = orjson.loads(arguments) if isinstance(arguments, str) else arguments
    except orjson.JSONDecodeError:
        value = None
    if not isinstance(value, Mapping):
        raise Refused.parameter(f"{place}.function.arguments", "must be the JSON text of an object")
    return {"type": "tool_use", "id": call.get("id") or "", "name": function["name"], "input": value}


def _text(message: Mapping[str, Any]) -> str:
    """The text of a content that is a string, null, or parts."""
    content = message.get("content")
    if content is None or isinstance(content, str):
        return content or ""
    return "".join(part["text"] for part in content)
