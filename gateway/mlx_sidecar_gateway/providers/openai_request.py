"""Requests for a server that speaks OpenAI's ``chat/completions``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from mlx_sidecar_client.protocol.errors import UnsupportedParameter

from .capabilities import Wish, schema_of
from .table import UpstreamProvider

PATH: Final = "/chat/completions"

_OTHER_NAME: Final = ("max_tokens", "messages", "response_format", "tool_choice")
_NO_PLACE: Final = {"tool": {"is_error", "name", "reasoning_content"}}
_FORMS: Final = ("text", "json_object", "json_schema")
_MEMBERS: Final = frozenset({"content", "name", "reasoning_content", "role", "tool_call_id", "tool_calls"})


def body_of(settings: UpstreamProvider, model: str, wish: Wish, provider: str) -> dict[str, Any]:
    """The body of a streamed request. Raises ``UnsupportedParameter`` for a form that has no place."""
    options = wish.options
    body: dict[str, Any] = {"model": model, "stream": True, "stream_options": {"include_usage": True}}
    body["messages"] = [_message(message, settings.honoured) for message in options["messages"]]
    body |= {name: value for name, value in options.items() if name not in _OTHER_NAME}
    if "max_tokens" in options:
        body[settings.limit_name] = options["max_tokens"]
    if "tool_choice" in options:
        body["tool_choice"] = _choice(options["tool_choice"])
    if "response_format" in options:
        body["response_format"] = form_of(options["response_format"], provider)
    if wish.effort is not None:
        body["reasoning_effort"] = wish.effort
    if wish.template_args:
        body["chat_template_kwargs"] = wish.template_args
    return body


def _message(message: Mapping[str, Any], honoured: frozenset[str]) -> dict[str, Any]:
    """A message without what the interface has no place for: reasoning of before, and whether a tool failed."""
    without = _NO_PLACE.get(message["role"], set[str]())
    if "reasoning_content" not in honoured:
        without = without | {"reasoning_content"}
    taken = {name: value for name, value in message.items() if name in _MEMBERS and name not in without}
    if taken.get("content") is None and "tool_calls" not in taken:
        taken["content"] = ""
    return {name: value for name, value in taken.items() if value is not None or name == "content"}


def _choice(choice: Any) -> Any:
    if isinstance(choice, Mapping):
        return {"type": "function", "function": {"name": choice["name"]}}
    return choice


def form_of(form: Mapping[str, Any], provider: str) -> Mapping[str, Any]:
    """The form of the answer; a schema is always kept to here, which OpenAI's interface does only if asked."""
    if form["type"] not in _FORMS or "whitespace" in form:
        because = f"the provider {provider!r} takes {', '.join(_FORMS)} alone, and no whitespace"
        raise UnsupportedParameter("response_format", because)
    if (schema := schema_of(form)) is None:
        return {"type": form["type"]}
    nested = form.get("json_schema")
    name = (nested.get("name") if isinstance(nested, Mapping) else None) or "answer"
    return {"type": "json_schema", "json_schema": {"name": name, "schema": schema, "strict": True}}
