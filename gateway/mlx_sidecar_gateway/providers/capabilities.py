"""The parameters that an upstream honours, by the sidecar's names, and those that a request truly asks it for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from pydantic import ValidationError

from mlx_sidecar_client.protocol.errors import InvalidParams, UnsupportedParameter
from mlx_sidecar_client.protocol.generate import GenerateParams

_BOTH: Final = {"parallel_tool_calls", "reasoning_effort", "response_format", "temperature", "tool_choice", "tools"}

OPENAI: Final = frozenset(_BOTH | {"frequency_penalty", "logit_bias", "presence_penalty", "seed", "top_p"})
"""Those of OpenAI's own interface."""

OPENAI_MORE: Final = frozenset(
    {
        "ignore_eos",
        "min_p",
        "priority",
        "reasoning_budget",
        "reasoning_content",
        "repeat_guard",
        "repetition_penalty",
        "skip_special",
        "stop_tokens",
        "template_args",
        "tool_format",
        "top_k",
    }
)
"""More of servers that speak it, such as another gateway of this kind; ``accepts`` names them."""

ANTHROPIC: Final = frozenset(_BOTH | {"enable_thinking", "reasoning_budget", "reasoning_content", "top_k", "top_p"})
"""Those of Anthropic's own interface."""

_ALWAYS: Final = {"messages", "max_tokens", "stop"}

# They are the gateway's own matter, or hold for every answer.
_OURS: Final = {"deadline_s", "echo_text", "priority", "template_args", "window"}

# Values with which a parameter asks for nothing.
_NEUTRAL: Final[Mapping[str, Any]] = {
    "context_overflow": "refuse",
    "escape_special": False,
    "explain_cache": False,
    "frequency_penalty": 0,
    "ignore_eos": False,
    "logit_bias": {},
    "min_p": 0,
    "parallel_tool_calls": True,
    "presence_penalty": 0,
    "repetition_penalty": 1,
    "skip_special": True,
    "speculation": False,
    "stop": [],
    "stop_tokens": [],
    "tools": [],
    "top_k": 0,
    "top_p": 1,
}


@dataclass(frozen=True)
class Wish:
    """The part of a request that goes to an upstream.

    options: The sidecar's, as they were checked; of prompts there are ``messages`` alone.
    effort: How much is to be reasoned; ``thinks``: whether anything is. None where that is left to the model.
    template_args: More variables of a chat template.
    priority: The one that a client named itself.
    """

    options: Mapping[str, Any]
    effort: str | None = None
    thinks: bool | None = None
    template_args: Mapping[str, Any] = field(default_factory=dict)
    priority: str | None = None


def checked(options: Mapping[str, Any]) -> dict[str, Any]:
    """``options`` of ``generate``, whose values the sidecar would take. Raises ``InvalidParams``."""
    given = {
        name: value for name, value in options.items() if value is not None and name not in ("echo_text", "window")
    }
    try:
        GenerateParams.model_validate({"model": "m", **given})
    except ValidationError as error:
        told = error.errors(include_url=False, include_context=False, include_input=False)
        raise InvalidParams(
            [{"loc": list(each["loc"]), "msg": each["msg"], "type": each["type"]} for each in told]
        ) from None
    return given


def wish_of(
    options: Mapping[str, Any], assumed: frozenset[str], honoured: frozenset[str], provider: str, *, ranks: bool
) -> Wish:
    """The wish that ``options`` are to a provider, which is never less than the client asked for.

    assumed: Options that the client did not name. They are left to the upstream, which has values of its own.
    ranks: Whether the client itself named the priority.

    Raises ``UnsupportedParameter`` for what the provider does not honour, and ``InvalidParams``.
    """
    asked: dict[str, Any] = {}
    for name, value in checked(options).items():
        if name in _OURS or name in assumed or (name in _NEUTRAL and value == _NEUTRAL[name]):
            continue
        if name not in honoured and name not in _ALWAYS:
            raise _unsupported(name, provider)
        asked[name] = value
    if "messages" not in asked:
        raise _unsupported("messages", provider)
    priority = options.get("priority") if ranks and options.get("priority") != "normal" else None
    if priority is not None and "priority" not in honoured:
        raise _unsupported("priority", provider)
    return _reasoning(Wish(asked, priority=priority), options.get("template_args") or {}, honoured, provider)


def _reasoning(wish: Wish, given: Mapping[str, Any], honoured: frozenset[str], provider: str) -> Wish:
    """``wish`` with the variables of the template as far as they have names in the interfaces of others."""
    args = dict(given)
    effort, thinks = args.pop("reasoning_effort", None), args.pop("enable_thinking", None)
    if not isinstance(effort, str | None) or not isinstance(thinks, bool | None):
        raise InvalidParams.field("template_args", "reasoning_effort must be a string, enable_thinking true or false")
    if "template_args" in honoured:
        if thinks is not None:
            args["enable_thinking"] = thinks
        return Wish(wish.options, effort, None, args, wish.priority)
    if thinks is False and effort is None and "enable_thinking" not in honoured:
        effort = "none"
    can_say = thinks is None or effort is not None or "enable_thinking" in honoured
    if args or not can_say:
        raise _unsupported("template_args", provider)
    if effort is not None and "reasoning_effort" not in honoured:
        raise _unsupported("reasoning_effort" if "reasoning_effort" in given else "template_args", provider)
    return Wish(wish.options, effort, thinks, {}, wish.priority)


def _unsupported(name: str, provider: str) -> UnsupportedParameter:
    return UnsupportedParameter(name, f"the provider {provider!r} does not take it")


def schema_of(form: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The schema of a ``response_format`` that has one, wherever it stands."""
    if form.get("type") != "json_schema":
        return None
    nested = form.get("json_schema")
    schema: Mapping[str, Any] = nested["schema"] if isinstance(nested, Mapping) else form["schema"]
    return schema
