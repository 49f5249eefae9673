"""Reads requests for ``responses``."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Final

from mlx_sidecar_client import GenerateResult

from ...faults import Refused
from ...members import Members
from ...surface import Generation, Question
from ..common import SAME_NAME, wants_stream
from .answer import Reply, output_text
from .conversation import Asked, Conversation
from .encoder import ResponseEncoder
from .items import pieces_of
from .parameters import FORM, INCLUDED, NEVER_THERE
from .tools import Tools, tools_of

NAMES: Final = {
    "context_overflow": "truncation",
    "logprobs": "top_logprobs",
    "max_tokens": "max_output_tokens",
    "messages": "input",
    "reasoning_effort": "reasoning.effort",
    "response_format": "text.format",
    "template_args": "chat_template_kwargs",
}
"""The client's name of each option of the sidecar that has another one."""

_TEMPERATURE: Final = 1.0  # OpenAI's, where a request says nothing; the sidecar would be greedy


def read(question: Question) -> Generation:
    """The generation that a request asks for. Raises ``Refused``."""
    body = Members(question.body, "")
    tools, included = tools_of(body), _included(body)
    reply = Reply(
        question.id,
        question.unix_s,
        _repeated(question, body, tools),
        with_logprobs="message.output_text.logprobs" in included,
        summarised=_summary(body) is not None,
        is_sealed="reasoning.encrypted_content" in included,
    )
    conversation = Conversation(asked_of(question, tools, store=body.boolean("store", True)))

    def whole(result: GenerateResult) -> bytes:
        response = reply.ended(reply.whole_output(result), result)
        conversation.keep(result, response)
        return response

    return Generation(
        options=_options(body, with_logprobs=reply.with_logprobs) | tools.options,
        stream=wants_stream(question.body),
        encoder=partial(ResponseEncoder, reply, conversation.keep),
        whole=whole,
        names=NAMES,
        way_of=conversation.way_of,
        prepare=conversation.prepare,
        settle=conversation.settle,
        ignored=(*tools.ignored, *(f"include.{value}" for value in sorted(included & NEVER_THERE))),
    )


def _options(body: Members, *, with_logprobs: bool) -> dict[str, Any]:
    """The sidecar's options but for the prompt and its tools."""
    options = {"temperature": _TEMPERATURE} | {name: body.value(name) for name in SAME_NAME if name in body}
    if (stop := body.value("stop")) is not None:
        options["stop"] = [stop] if isinstance(stop, str) else stop
    options |= {name: body.value(name) for name in ("reasoning_budget", "tool_format") if name in body}
    if "max_output_tokens" in body:
        options["max_tokens"] = body.value("max_output_tokens")
    if (form := _form(body)) is not None:
        options["response_format"] = form
    if body.text("truncation", "disabled") == "auto":
        options["context_overflow"] = "drop_oldest"
    elif "truncation" in body:
        body.has("truncation", "auto", "disabled")
    if with_logprobs:
        options["logprobs"] = body.whole("top_logprobs", 0)
    elif body.whole("top_logprobs", 0):
        raise Refused.parameter("top_logprobs", "only goes with message.output_text.logprobs in include")
    return options


def _included(body: Members) -> frozenset[str]:
    """The values of ``include``."""
    values = body.values("include", [])
    for number, value in enumerate(values):
        if not isinstance(value, str) or value not in INCLUDED | NEVER_THERE:
            raise Refused.parameter(f"include.{number}", f"{value!r} is not known here", "unsupported_parameter")
    return frozenset(values)


def _form(body: Members) -> dict[str, Any] | None:
    """The form of the answer; an answer always follows its schema here, so that ``strict`` is nothing."""
    text = Members(body.object("text", {}), "text")
    if "format" not in text:
        return None
    form = Members(text.value("format"), "text.format")
    type_ = form.has("type", "text", "json_object", "json_schema")
    form.within(FORM)
    if type_ == "json_schema":
        return {"type": type_, "schema": form.object("schema")}
    return {"type": type_} if type_ == "json_object" else None


# Reasoning.


def _summary(body: Members) -> str | None:
    """The kind of summary that is wanted, under its present or its older name."""
    reasoning = Members(body.object("reasoning", {}), "reasoning")
    for name in ("summary", "generate_summary"):
        if name in reasoning:
            if reasoning.has(name, "auto", "concise", "detailed") == "concise":
                because = "nothing is summarised here: auto and detailed give the reasoning itself"
                raise Refused.parameter(reasoning.place(name), because, "unsupported_parameter")
            return reasoning.text(name)
    return None


def _template_args(body: Members) -> dict[str, Any]:
    """The variables of the chat template: reasoning effort, and what vLLM calls ``chat_template_kwargs``."""
    told: dict[str, Any] = {}
    reasoning = Members(body.object("reasoning", {}), "reasoning")
    if "effort" in reasoning:
        told["reasoning_effort"] = reasoning.text("effort")
        if told["reasoning_effort"] == "none":
            told["enable_thinking"] = False
    return told | body.object("chat_template_kwargs", {})


# The conversation, and what the response repeats.


def asked_of(question: Question, tools: Tools, *, store: bool) -> Asked:
    """The part of a request that concerns its conversation. Raises ``Refused``."""
    body = Members(question.body, "")
    pieces = pieces_of(body)
    if not pieces:
        raise Refused.parameter("input", "a text or a list of items is needed")
    return Asked(
        response_id=f"resp_{question.id}",
        previous=body.text("previous_response_id") if "previous_response_id" in body else None,
        pieces=pieces,
        items=_numbered(question.id, body.value("input")),
        instructions=body.text("instructions") if "instructions" in body else None,
        tools=tools.functions,
        template_args=_template_args(body),
        store=store,
        caller=question.caller,
    )


def _numbered(id_: str, given: Any) -> list[Mapping[str, Any]]:
    """The items of the input as ``input_items`` lists them: each with a type and an id, and contents as parts."""
    items: list[Any] = [{"role": "user", "content": given}] if isinstance(given, str) else given
    return [_numbered_item(f"item_{id_}_{number}", item) for number, item in enumerate(items)]


def _numbered_item(id_: str, item: Mapping[str, Any]) -> Mapping[str, Any]:
    given = {name: value for name, value in item.items() if value is not None}
    told = {"id": id_, "type": "message" if "role" in given else "item_reference", **given}
    if isinstance(text := given.get("content"), str):
        is_answer = given.get("role") == "assistant"
        told["content"] = [output_text(text, []) if is_answer else {"type": "input_text", "text": text}]
    return told


def _repeated(question: Question, body: Members, tools: Tools) -> dict[str, Any]:
    reasoning = body.object("reasoning", {})
    text = body.object("text", {})
    metadata = body.object("metadata", {})
    for name, value in metadata.items():
        if not isinstance(value, str):
            raise Refused.parameter(f"metadata.{name}", "must be a string")
    return {
        "model": question.model,
        "previous_response_id": body.value("previous_response_id"),
        "instructions": body.value("instructions"),
        "tools": tools.told,
        "tool_choice": tools.choice,
        "parallel_tool_calls": body.boolean("parallel_tool_calls", True),
        "text": {"format": text.get("format") or {"type": "text"}},
        "reasoning": {"effort": reasoning.get("effort"), "summary": _summary(body)},
        "temperature": _said(question, "temperature", _TEMPERATURE),
        "top_p": _said(question, "top_p", 1.0),
        "presence_penalty": _said(question, "presence_penalty", 0.0),
        "frequency_penalty": _said(question, "frequency_penalty", 0.0),
        "top_logprobs": body.value("top_logprobs") or 0,
        "max_output_tokens": body.value("max_output_tokens") or question.defaults.get("max_tokens"),
        "max_tool_calls": body.value("max_tool_calls"),
        "truncation": body.value("truncation") or "disabled",
        "store": body.boolean("store", True),
        "background": False,
        "service_tier": "default",
        "metadata": metadata,
        "prompt_cache_key": body.value("prompt_cache_key"),
        "safety_identifier": body.value("safety_identifier"),
        "user": body.value("user"),
    }


def _said(question: Question, name: str, otherwise: float) -> Any:
    """The value that the request names, or else the one that the answer has."""
    return question.body.get(name, question.defaults.get(name, otherwise))
