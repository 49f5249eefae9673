"""The demands of a request's tools on its answer: whether calls are held to a grammar, and to which."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic_core import to_json

from mlx_sidecar_protocol.errors import InvalidParams, UnsupportedParameter
from mlx_sidecar_protocol.generate import GenerateParams
from mlx_sidecar_protocol.tools import NamedTool, name_of

from ...link import forms as link
from ..output.calls.open_call import is_name
from ..output.calls.value_types import STRING, ToolTypes
from ..output.formats.grammar import IdOf, call_shape
from ..output.formats.tool_format import ToolFormat

Demand = Literal["required", "offered", "forbidden"]
Tool = Mapping[str, Any]

_UNKNOWN = "its chat template does not tell how it writes calls; name a tool_format"
_NOT_ANNOUNCED = (
    "calls of this model begin like any JSON, so that they cannot be told from a form;"
    ' with tool_choice "none" or "required" there is no need to'
)
_NOTHING_FOLLOWS = (
    "does not go with tool_choice, strict tools or parallel_tool_calls: nothing may follow a whole answer"
)
_NO_ARGUMENTS = b'{"type":"object","properties":{}}'


def demand_of(params: GenerateParams) -> Demand | None:
    """The demands of the request on calls; None if it leaves them free."""
    choice = params.tool_choice
    if not params.tools or (choice == "none" and params.form is not None):
        return None
    if choice == "none":
        return "forbidden"
    if choice == "required" or isinstance(choice, NamedTool):
        return "required"
    bound = params.form is not None or not params.parallel_tool_calls or any(map(is_strict, params.tools))
    return "offered" if bound else None


def calls_form(
    params: GenerateParams, format_: ToolFormat | None, id_of: IdOf, form: link.Form | None
) -> link.CallsForm | None:
    """The form that calls have in the answer; None if it is left to ``form`` or free.

    Raises UnsupportedParameter naming the parameter that needs a format for a model without one, InvalidParams naming
    a tool that cannot be called.
    """
    if (demand := demand_of(params)) is None:
        return None
    if format_ is None:
        if (needs := _needing(params)) is not None:
            raise UnsupportedParameter(needs, _UNKNOWN)
        return None
    if not format_.announced and demand == "forbidden":
        return None  # nothing tells a call from text
    if not format_.announced and form is not None:
        raise UnsupportedParameter("response_format", _NOT_ANNOUNCED)
    if params.ignore_eos:
        raise InvalidParams.field("ignore_eos", _NOTHING_FOLLOWS)
    return link.CallsForm(
        tools=[] if demand == "forbidden" else _callable(params, bound=demand == "required"),
        shape=call_shape(format_, id_of),
        demand=demand,
        several=params.parallel_tool_calls and format_.parallel and not isinstance(params.tool_choice, NamedTool),
        instead=form,
    )


def is_strict(tool: Tool) -> bool:
    """Whether the arguments of ``tool`` must be valid under its schema."""
    return _described(tool).get("strict") is True or tool.get("strict") is True


def _needing(params: GenerateParams) -> str | None:
    """The parameter that cannot be honoured without a format."""
    if params.tool_choice not in (None, "auto", "none"):
        return "tool_choice"
    if params.tool_choice == "none":
        return None
    if any(map(is_strict, params.tools or ())):
        return "tools"
    return None if params.parallel_tool_calls else "parallel_tool_calls"


def _callable(params: GenerateParams, *, bound: bool) -> list[link.Tool]:
    """The tools that may be called. ``bound``: each is held to its schema, else the strict ones."""
    choice = params.tool_choice
    found: dict[str, link.Tool] = {}
    types = ToolTypes(params.tools or [])
    for at, tool in enumerate(params.tools or ()):
        name = name_of(dict(tool))
        if isinstance(choice, NamedTool) and name != choice.name:
            continue
        if name is None or name in found or not is_name(name):
            why = "another tool has its name" if name in found else "it has no name with which it can be called"
            raise InvalidParams([{"loc": ["tools", at], "msg": why, "type": "uncallable_tool"}])
        found[name] = _tool(name, tool, ["tools", at], types, bound=bound or is_strict(tool))
    return list(found.values())


def _tool(name: str, tool: Tool, place: link.Path, types: ToolTypes, *, bound: bool) -> link.Tool:
    described = _described(tool)
    inside = ["function"] if described is not tool else []
    schema = described.get("parameters")
    if schema is not None and not isinstance(schema, dict):
        why = "a schema is an object"
        raise InvalidParams([{"loc": [*place, *inside, "parameters"], "msg": why, "type": "dict_type"}])
    properties = (schema or {}).get("properties", {})
    return link.Tool(
        name=name,
        place=[*place, *inside, "name"],
        schema=_json_of(schema) if bound else None,
        schema_place=[*place, *inside, "parameters"],
        texts=[each for each in properties if types.of(name, each) == STRING],
    )


def _described(tool: Tool) -> Tool:
    function = tool.get("function")
    return function if isinstance(function, dict) else tool


def _json_of(schema: Mapping[str, Any] | None) -> bytes:
    """A tool without a schema takes no arguments."""
    return _NO_ARGUMENTS if schema is None else to_json(schema, inf_nan_mode="constants")
