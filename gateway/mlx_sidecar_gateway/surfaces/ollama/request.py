"""Reads Ollama's requests into options of the sidecar."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

from ..faults import Refused
from ..members import Members
from ..places import Place, way_of
from ..surface import Question
from .messages import chat_of
from .parameters import OPTIONS, TOOL

NAMES: Final = {
    **{sidecar: f"options.{ollama}" for ollama, sidecar in OPTIONS.items()},
    "response_format": "format",
    "logprobs": "top_logprobs",
    "reasoning_budget": "think",
    "reasoning_effort": "think",
    "template_args": "think",
}
"""The client's name of each option of the sidecar that has another one."""

# Ollama's, where a request says nothing; the sidecar would be greedy.
_DEFAULTS: Final = {"temperature": 0.8, "top_k": 40, "top_p": 0.9}

FOREVER_S: Final = 1e9  # a model is kept by a time, and this one is 31 years
_LET_GO_S: Final = 1.0  # long enough for the request that asks for it to begin

_LEVELS: Final = ("low", "medium", "high", "max")
_UNIT_S: Final = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
_PART: Final = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ms|us|µs|ns|h|m|s)")


def chat_options(question: Question) -> dict[str, Any]:
    """The options of ``Sidecar.generate`` that a chat asks for. Raises ``Refused`` naming the field."""
    body = Members(question.body, "")
    options = {"messages": chat_of(body), **_common(body, question)}
    if tools := [_tool(tool) for tool in body.objects("tools")]:
        options["tools"] = tools
    return options


def generate_options(question: Question) -> dict[str, Any]:
    """The same of ``generate``: a prompt that the model's template is put around, unless it is raw."""
    body = Members(question.body, "")
    prompt = body.text("prompt", "")
    if not body.boolean("raw", False):
        system = [{"role": "system", "content": body.text("system")}] if body.value("system") else []
        return {"messages": [*system, {"role": "user", "content": prompt}], **_common(body, question)}
    for name in ("system", "think"):
        if body.value(name):
            raise Refused.parameter(name, "does not go with raw: the prompt is continued as it is")
    return {"prompt": prompt, **_common(body, question)}


def generate_way_of(question: Question, path: Sequence[str]) -> str | None:
    """The client's way to the sidecar's ``path``, if that leads into the messages of ``generate_options``."""
    names = ["system", "prompt"] if question.body.get("system") else ["prompt"]
    return way_of(path, [Place(name, {}) for name in names], "prompt")


def is_streamed(question: Question) -> bool:
    """Whether the answer is streamed, as it is by default."""
    return Members(question.body, "").boolean("stream", True)


def kept_for_s(question: Question) -> float | None:
    """How long the model is to be kept after this request, in seconds; None where nothing is said about it."""
    value = question.body.get("keep_alive")
    if value is None:
        return None
    seconds = value if isinstance(value, int | float) and not isinstance(value, bool) else _seconds(value)
    if seconds is None:
        raise Refused.parameter("keep_alive", "must be a number of seconds, or a duration such as 5m")
    return FOREVER_S if seconds < 0 else min(float(seconds), FOREVER_S)


def ttl_s(kept_s: float) -> float:
    """The ``ttl_s`` of a model that is kept for so long behind a request that has not begun."""
    return max(kept_s, _LET_GO_S)


def thinks(question: Question) -> bool | None:
    """Whether the answer is to be reasoned about; None where that is left to the model, and for a raw prompt."""
    think = None if question.body.get("raw") else question.body.get("think")
    if think is None or isinstance(think, bool):
        return think
    if think not in _LEVELS:
        raise Refused.parameter("think", f"must be true, false, {', '.join(_LEVELS[:-1])} or {_LEVELS[-1]}")
    return True


def _seconds(text: Any) -> float | None:
    """The seconds of a duration as Go writes it, e.g. ``1h30m``, or of a number in a string; None if it is neither."""
    if not isinstance(text, str):
        return None
    sign, digits = (-1, text[1:]) if text.startswith("-") else (1, text)
    parts = _PART.findall(digits)
    if parts and "".join(number + unit for number, unit in parts) == digits:
        return sign * sum(float(number) * _UNIT_S[unit] for number, unit in parts)
    try:
        return sign * float(digits) if digits[:1].isdigit() else None
    except ValueError:
        return None


def _common(body: Members, question: Question) -> dict[str, Any]:
    options = _sampling(Members(body.object("options", {}), "options"))
    if (form := body.value("format")) not in (None, ""):
        options["response_format"] = _form(form)
    if body.boolean("logprobs", False):
        options["logprobs"] = body.whole("top_logprobs", 0)
    elif body.whole("top_logprobs", 0):
        raise Refused.parameter("top_logprobs", "only goes with logprobs")
    return options | _thinking(question)


def _sampling(given: Members) -> dict[str, Any]:
    options = _DEFAULTS | {OPTIONS[name]: given.value(name) for name in OPTIONS if name in given}
    if options.get("max_tokens") in (-1, -2):  # without an end, and until the context is full
        del options["max_tokens"]
    if options.get("seed") == -1:  # a random one
        del options["seed"]
    return options


def _thinking(question: Question) -> dict[str, Any]:
    thinking = thinks(question)
    if thinking is None:
        return {}
    args: dict[str, Any] = {"enable_thinking": thinking}
    if thinking and question.body["think"] is not True:
        args["reasoning_effort"] = question.body["think"]
    return {"template_args": args}


def _form(form: Any) -> dict[str, Any]:
    if form == "json":
        return {"type": "json_object"}
    if not isinstance(form, dict):
        raise Refused.parameter("format", "must be json, or a schema")
    return {"type": "json_schema", "schema": form}


def _tool(tool: Members) -> dict[str, Any]:
    tool.within(TOOL)
    if tool.text("type", "function") != "function":
        raise Refused.parameter(tool.place("type"), "must be function")
    function = Members(tool.object("function"), tool.place("function"))
    described: dict[str, Any] = {"name": function.text("name")}
    if "description" in function:
        described["description"] = function.text("description")
    described["parameters"] = function.object("parameters", {"type": "object", "properties": {}})
    if function.boolean("strict", False):
        described["strict"] = True
    return {"type": "function", "function": described}
