"""The tools of a request: those that the model is told of, those that are left aside, and which must be called."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from ...faults import Refused
from ...members import Members
from .parameters import FUNCTION, LEFT_ASIDE, REFUSED_TOOLS, TOOL_CHOICES

_MODES: Final = ("auto", "none", "required")


@dataclass(frozen=True)
class Tools:
    """The tools of a request.

    functions: Those that the model is told of, as the sidecar takes them.
    options: ``tool_choice`` and ``parallel_tool_calls`` for the sidecar, where they were given.
    told: All functions as responses repeat them, with all members.
    choice: ``tool_choice`` as responses repeat it.
    ignored: Names of what was left aside, for ``x-mlx-sidecar-ignored``.
    """

    functions: list[dict[str, Any]]
    options: dict[str, Any]
    told: list[dict[str, Any]]
    choice: Any
    ignored: tuple[str, ...]


def tools_of(body: Members) -> Tools:
    """The tools of ``body``. Raises ``Refused`` naming the one at fault."""
    told: list[dict[str, Any]] = []
    ignored: set[str] = set()
    given = body.objects("tools")
    for tool in given:
        type_ = tool.text("type")
        if type_ == "function":
            told.append(_function(tool, ignored))
        elif type_ in LEFT_ASIDE:
            ignored.add(f"tools.{type_}")
        else:
            because = REFUSED_TOOLS.get(type_, f"tools of type {type_!r} are not known here")
            raise Refused.parameter(tool.place("type"), because, "unsupported_parameter")
    if given and not told:
        because = "there is no function among them, and the model can be told of no others"
        raise Refused.parameter(body.place("tools"), because, "unsupported_parameter")
    choice, allowed = _choice(body, [tool["name"] for tool in told])
    functions = [_for_sidecar(tool) for tool in told if tool["name"] in allowed]
    options: dict[str, Any] = {}
    if functions and choice is not None:
        options["tool_choice"] = choice
    if functions and "parallel_tool_calls" in body:
        options["parallel_tool_calls"] = body.boolean("parallel_tool_calls")
    return Tools(functions, options, told, body.value("tool_choice") or "auto", tuple(sorted(ignored)))


def _function(tool: Members, ignored: set[str]) -> dict[str, Any]:
    """A function, with all members that responses repeat."""
    tool.within(FUNCTION)
    if "output_schema" in tool:
        ignored.add("tools.output_schema")
    for name in ("async", "defer_loading"):
        if tool.boolean(name, False):
            raise Refused.parameter(tool.place(name), "only false is taken here", "unsupported_parameter")
    if "direct" not in tool.values("allowed_callers", ["direct"]):
        because = "must contain direct: only the model itself calls tools here"
        raise Refused.parameter(tool.place("allowed_callers"), because, "unsupported_parameter")
    return {
        "type": "function",
        "name": tool.text("name"),
        "description": tool.text("description") if "description" in tool else None,
        "parameters": tool.object("parameters") if "parameters" in tool else None,
        "strict": tool.boolean("strict", False),
    }


def _for_sidecar(tool: Mapping[str, Any]) -> dict[str, Any]:
    """The function as the sidecar takes it."""
    members = ("name", "description", "parameters", "strict")
    return {"type": "function", "function": {name: tool[name] for name in members if tool[name] not in (None, False)}}


def _choice(body: Members, names: list[str]) -> tuple[Any, list[str]]:
    """The sidecar's ``tool_choice``, None for its default, and the names of the functions that the model is told of."""
    choice = body.value("tool_choice")
    if choice is None or isinstance(choice, str):
        if choice is not None:
            body.has("tool_choice", *_MODES)
        if choice == "required" and not names:
            raise Refused.parameter("tool_choice", "'required' only goes with tools")
        return choice, names
    chosen = Members(choice, body.place("tool_choice"))
    type_ = chosen.text("type")
    if type_ not in TOOL_CHOICES:
        because = f"{type_!r} is not taken, because the model can only be told of functions"
        raise Refused.parameter(chosen.place("type"), because, "unsupported_parameter")
    chosen.within(TOOL_CHOICES[type_])
    if type_ == "function":
        return {"name": _known(chosen, names)}, names
    return chosen.has("mode", "auto", "required"), [_known(tool, names) for tool in chosen.objects("tools")]


def _known(named: Members, names: list[str]) -> str:
    named.has("type", "function")
    if (name := named.text("name")) not in names:
        raise Refused.parameter(named.place("name"), f"no function of tools has the name {name!r}")
    return name
