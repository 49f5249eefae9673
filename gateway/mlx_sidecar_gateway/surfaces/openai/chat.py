"""Reading ``chat/completions``: its parameters, and its messages as the sidecar takes them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from ..faults import Refused
from ..parameters import Harmless, Parameters
from ..surface import Generation, Question
from .chat_answers import ChatEncoder, Reply, whole
from .common import HARMLESS, HONOURED, includes_usage, sampling, wants_stream

PARAMETERS = Parameters(
    honoured=HONOURED
    | {
        "chat_template_kwargs",
        "logprobs",
        "max_completion_tokens",
        "max_tokens",
        "messages",
        "parallel_tool_calls",
        "reasoning_budget",
        "reasoning_effort",
        "response_format",
        "tool_choice",
        "tool_format",
        "tools",
        "top_logprobs",
    },
    harmless={
        **HARMLESS,
        "metadata": Harmless("nothing is stored"),
        "modalities": Harmless("answers are text", only=(["text"],)),
        "prediction": Harmless("it may change the speed alone; ``speculation`` does that here"),
        "prompt_cache_key": Harmless("prompts are found in the cache by their text"),
        "prompt_cache_options": Harmless("prompts are found in the cache by their text"),
        "prompt_cache_retention": Harmless("the cache keeps what was used last"),
        "safety_identifier": Harmless("it names the user to OpenAI"),
        "service_tier": Harmless("there is one tier; ``x-mlx-sidecar-priority`` chooses who goes first"),
        "store": Harmless("nothing is stored", only=(False,)),
        "verbosity": Harmless("it is a wish to OpenAI's own models"),
    },
    refused={
        "audio": "answers are text",
        "function_call": "tool_choice has taken its place",
        "functions": "tools has taken its place",
        "moderation": "nothing is moderated here",
        "web_search_options": "nothing is searched here",
    },
)

_ROLES = {"developer": "system"}  # templates know no developer
_MEMBERS = frozenset({"content", "name", "reasoning_content", "role", "tool_call_id", "tool_calls"})
_UNREAD = frozenset({"annotations", "refusal"})  # of earlier answers, sent back as they came
_NAMES = {"template_args": "chat_template_kwargs"}


def read(question: Question) -> Generation:
    """The generation that a request asks for. Raises ``Refused``."""
    body, names = question.body, dict(_NAMES)
    options = sampling(body) | {"messages": _messages(body)} | _tools(body) | _template(body)
    options |= {name: body[name] for name in ("reasoning_budget", "tool_format") if name in body}
    if (limit := _limit(body, names)) is not None:
        options["max_tokens"] = limit
    if (form := body.get("response_format")) is not None:
        options["response_format"] = _form(form)
    if (alternatives := _logprobs(body)) is not None:
        options["logprobs"] = alternatives
        names["logprobs"] = "top_logprobs"
    reply = Reply(f"chatcmpl-{question.id}", question.unix_s, question.model, with_logprobs=alternatives is not None)
    return Generation(
        options=options,
        stream=wants_stream(body),
        encoder=partial(ChatEncoder, reply, with_usage=includes_usage(body)),
        whole=partial(whole, reply),
        names=names,
    )


def _limit(body: Mapping[str, Any], names: dict[str, str]) -> Any:
    newer, older = body.get("max_completion_tokens"), body.get("max_tokens")
    if newer is not None and older is not None and newer != older:
        raise Refused.parameter("max_tokens", "max_completion_tokens has another value")
    if newer is not None:
        names["max_tokens"] = "max_completion_tokens"
    return older if newer is None else newer


def _logprobs(body: Mapping[str, Any]) -> Any:
    """How many alternatives are reported for each token; None if none is reported at all."""
    wanted, alternatives = body.get("logprobs", False), body.get("top_logprobs")
    if not isinstance(wanted, bool):
        raise Refused.parameter("logprobs", "must be true or false")
    if not wanted and alternatives:
        raise Refused.parameter("top_logprobs", "only goes with logprobs: true")
    return (alternatives or 0) if wanted else None


def _form(form: Any) -> Any:
    """OpenAI's form as the sidecar's; an answer always follows its schema here, so that ``strict`` is nothing.

    A ``json_object`` with a ``schema``, as clients of llama.cpp write it, is JSON under that schema.
    """
    if isinstance(form, dict) and form.get("type") == "json_object" and form.get("schema") is not None:
        return {**form, "type": "json_schema"}
    schema = form.get("json_schema") if isinstance(form, dict) else None
    if not isinstance(schema, dict):
        return form
    return {**form, "json_schema": {name: value for name, value in schema.items() if name != "strict"}}


def _template(body: Mapping[str, Any]) -> dict[str, Any]:
    """The variables of the chat template: reasoning effort, and what vLLM calls ``chat_template_kwargs``."""
    told: dict[str, Any] = {}
    if (effort := body.get("reasoning_effort")) is not None:
        told["reasoning_effort"] = effort
        if effort == "none":
            told["enable_thinking"] = False
    more = body.get("chat_template_kwargs", {})
    if not isinstance(more, dict):
        raise Refused.parameter("chat_template_kwargs", "must be an object")
    told |= more
    return {"template_args": told} if told else {}


# Tools.


def _tools(body: Mapping[str, Any]) -> dict[str, Any]:
    tools = body.get("tools")
    if tools is None or tools == []:
        if (choice := body.get("tool_choice", "none")) not in ("none", "auto"):
            raise Refused.parameter("tool_choice", f"{choice!r} only goes with tools")
        return {}
    if not isinstance(tools, list):
        raise Refused.parameter("tools", "must be a list")
    for number, tool in enumerate(tools):
        if not isinstance(tool, dict) or tool.get("type") != "function" or not isinstance(tool.get("function"), dict):
            raise Refused.parameter(f"tools.{number}.type", "only functions are taken", "unsupported_parameter")
    options = {"tools": tools}
    if "tool_choice" in body:
        options["tool_choice"] = _tool_choice(body["tool_choice"])
    if "parallel_tool_calls" in body:
        options["parallel_tool_calls"] = body["parallel_tool_calls"]
    return options


def _tool_choice(choice: Any) -> Any:
    if not isinstance(choice, dict):
        return choice
    function = choice.get("function")
    if choice.get("type") != "function" or not isinstance(function, dict):
        raise Refused.parameter("tool_choice.type", f"{choice.get('type')!r} is not taken", "unsupported_parameter")
    return {"name": function.get("name")}


# Messages.


def _messages(body: Mapping[str, Any]) -> list[dict[str, Any]]:
    messages = body.get("messages")
    if not isinstance(messages, list):
        raise Refused.parameter("messages", "a list of messages is needed")
    return [_message(f"messages.{number}", message) for number, message in enumerate(messages)]


def _message(place: str, message: Any) -> dict[str, Any]:
    if not isinstance(message, dict):
        raise Refused.parameter(place, "must be an object")
    taken = {name: value for name, value in message.items() if value is not None and name not in _UNREAD}
    if message.get("refusal") is not None and "content" not in taken:
        taken["content"] = message["refusal"]
    for name in taken.keys() - _MEMBERS:
        raise Refused.parameter(f"{place}.{name}", "no such member of a message here", "unknown_parameter")
    if isinstance(role := taken.get("role"), str):
        taken["role"] = _ROLES.get(role, role)
    if isinstance(parts := taken.get("content"), list):
        taken["content"] = [_part(f"{place}.content.{number}", part) for number, part in enumerate(parts)]
    for number, call in enumerate(taken.get("tool_calls", [])):
        if not isinstance(call, dict) or not isinstance(call.get("function"), dict):
            raise Refused.parameter(f"{place}.tool_calls.{number}", "only calls of functions are taken")
    return taken


def _part(place: str, part: Any) -> dict[str, Any]:
    kind = part.get("type") if isinstance(part, dict) else None
    if kind == "refusal":
        return {"type": "text", "text": part.get("refusal")}
    if kind != "text":
        raise Refused.parameter(f"{place}.type", f"only text is taken, not {kind!r}", "unsupported_parameter")
    return {"type": "text", "text": part.get("text")}
