"""Reads requests for Anthropic's Messages into options of the sidecar."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from .. import places
from ..faults import Refused
from ..members import Members
from ..surface import Question
from .messages import Chat, chat_of, found_tools
from .parameters import REFUSED_THINKING, THINKING, TOOL, TOOL_CHOICE

KEEP_ATTRIBUTION: Final = "x-mlx-sidecar-keep-attribution"
NAMES: Final = {
    "stop": "stop_sequences",
    "reasoning_budget": "thinking.budget_tokens",
    "response_format": "output_config.format",
    "template_args": "thinking",
    "parallel_tool_calls": "tool_choice.disable_parallel_tool_use",
}
"""The client's name of each option of the sidecar that has another one."""

_SAME: Final = ("temperature", "top_p", "top_k")
_TEMPERATURE: Final = 1.0  # Anthropic's, where a request says nothing; the sidecar would be greedy


def prompt_of(question: Question) -> dict[str, Any]:
    """The options that the prompt is made of: ``messages``, and ``tools`` and ``template_args`` if there are any."""
    body = Members(question.body, "")
    prompt: dict[str, Any] = {"messages": _chat(question).messages}
    if tools := _tools(body):
        prompt["tools"] = tools
    thinking = _thinking(body)
    if thinking is not None and thinking.text("type") != "adaptive":
        prompt["template_args"] = {"enable_thinking": thinking.text("type") == "enabled"}
    return prompt


def way_of(question: Question, path: Sequence[str]) -> str | None:
    """The client's way to the sidecar's ``path``, if that leads into messages."""
    return places.way_of(path, _chat(question).places, "messages")


def options_of(question: Question) -> dict[str, Any]:
    """All options of ``Sidecar.generate`` that the request asks for. Raises ``Refused`` naming the field."""
    body = Members(question.body, "")
    options = {**prompt_of(question), "max_tokens": body.whole("max_tokens")}
    if options["max_tokens"] == 0:
        raise Refused.parameter("max_tokens", "must be at least 1: a prompt is not cached without an answer here")
    options |= {"temperature": _TEMPERATURE, **{name: body.value(name) for name in _SAME if name in body}}
    if "stop_sequences" in body:
        options["stop"] = body.value("stop_sequences")
    if (form := _form(body)) is not None:
        options["response_format"] = form
    return options | _choice(body) | _budget(body)


def omits_reasoning(body: Mapping[str, Any]) -> bool:
    """Whether the client wants to hear that there is reasoning, but not its text."""
    thinking = body.get("thinking")
    return isinstance(thinking, Mapping) and thinking.get("display") == "omitted"


def switches_off(body: Mapping[str, Any]) -> bool:
    """Whether the client wants no reasoning."""
    thinking = body.get("thinking")
    return isinstance(thinking, Mapping) and thinking.get("type") == "disabled"


def _chat(question: Question) -> Chat:
    keep = question.headers.get(KEEP_ATTRIBUTION, "0") != "0"
    return chat_of(Members(question.body, ""), keep_attribution=keep)


def _thinking(body: Members) -> Members | None:
    if "thinking" not in body:
        return None
    thinking = Members(body.value("thinking"), body.place("thinking"))
    if (type_ := thinking.text("type")) in REFUSED_THINKING:
        raise Refused.parameter(thinking.place("type"), REFUSED_THINKING[type_], "unsupported_parameter")
    thinking.within(THINKING[thinking.has("type", *THINKING)])
    if "display" in thinking:
        thinking.has("display", "summarized", "omitted")
    return thinking


def _budget(body: Members) -> dict[str, int]:
    thinking = _thinking(body)
    if thinking is None or thinking.text("type") != "enabled":
        return {}
    return {"reasoning_budget": thinking.whole("budget_tokens")}


def _form(body: Members) -> dict[str, Any] | None:
    """The form of the answer, from ``output_config`` or from ``output_format``, its older name."""
    given = [("format", Members(body.object("output_config", {}), "output_config")), ("output_format", body)]
    for name, members in given:
        if name in members:
            form = Members(members.value(name), members.place(name))
            form.has("type", "json_schema")
            return {"type": "json_schema", "schema": form.object("schema")}
    return None


def _tools(body: Members) -> list[dict[str, Any]]:
    """The tools that the model sees: of deferred ones those that were found, at the end, where they spare the cache."""
    tools, deferred = list[dict[str, Any]](), dict[str, dict[str, Any]]()
    for tool in body.objects("tools"):
        read = _tool(tool)
        if tool.boolean("defer_loading", False):
            deferred[read["function"]["name"]] = read
        else:
            tools.append(read)
    names = {tool["function"]["name"] for tool in tools}
    for name, place in found_tools(body).items():
        if name in deferred:
            tools.append(deferred[name])
        elif name not in names:
            raise Refused.parameter(place, f"no tool in tools has the name {name!r}")
    return tools


def _tool(tool: Members) -> dict[str, Any]:
    if tool.text("type", "custom") != "custom":
        because = "only tools that the client runs are there, with an input_schema"
        raise Refused.parameter(tool.place("type"), because, "unsupported_parameter")
    tool.within(TOOL)
    if "direct" not in tool.values("allowed_callers", ["direct"]):
        because = "must contain direct: only the model itself calls tools here"
        raise Refused.parameter(tool.place("allowed_callers"), because, "unsupported_parameter")
    function: dict[str, Any] = {"name": tool.text("name")}
    if "description" in tool:
        function["description"] = tool.text("description")
    function["parameters"] = tool.object("input_schema")
    if tool.boolean("strict", False):
        function["strict"] = True
    return {"type": "function", "function": function}


def _choice(body: Members) -> dict[str, Any]:
    if "tool_choice" not in body:
        return {}
    has_tools = bool(body.value("tools"))
    choice = Members(body.value("tool_choice"), body.place("tool_choice"))
    type_ = choice.has("type", *TOOL_CHOICE)
    choice.within(TOOL_CHOICE[type_])
    options: dict[str, Any] = {}
    if type_ == "tool":
        options["tool_choice"] = {"name": choice.text("name")}
    elif has_tools or type_ == "any":
        options["tool_choice"] = "required" if type_ == "any" else type_
    if choice.boolean("disable_parallel_tool_use", False) and has_tools:
        options["parallel_tool_calls"] = False
    return options
