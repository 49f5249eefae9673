"""Faults of a rendered chat, and the two renderers with which ours is compared."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from mlx_sidecar.text.templates import ChatTemplates
from mlx_sidecar_protocol.errors import RpcError

from .chats import Chat, texts

SPECIAL: dict[str, Any] = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
_OWN_WORD = re.compile(r"q[0-9]+w")


class Text(NamedTuple):
    """A rendered chat, or why there is none."""

    text: str
    refused: str | None = None
    warnings: tuple[Any, ...] = ()


Renderer = Callable[[Chat], Text]


def ours(template: str) -> Renderer:
    chat_templates = ChatTemplates({"default": template}, SPECIAL)

    def render(chat: Chat) -> Text:
        try:
            rendered = chat_templates.render(chat.messages, chat.tools, chat.add_generation_prompt)
        except RpcError as refused:
            return Text("", str(refused))
        return Text(rendered.text, None, rendered.warnings)

    return render


def transformers(template: str) -> Renderer:
    """``apply_chat_template`` of transformers, with messages as they are."""
    from transformers.utils.chat_template_utils import render_jinja_template

    def render(chat: Chat) -> Text:
        tools: list[Any] | None = chat.tools
        try:
            (text,), _ = render_jinja_template(
                [copy.deepcopy(chat.messages)],
                tools=tools,
                chat_template=template,
                add_generation_prompt=chat.add_generation_prompt,
                **SPECIAL,
            )
        except Exception as refused:  # noqa: BLE001  # a template raises any exception
            return Text("", f"{type(refused).__name__}: {refused}")
        return Text(text)

    return render


def mlx_lm_server(template: str) -> Renderer:
    """Render as mlx-lm's server does: every content a string, all arguments objects, then transformers."""
    from mlx_lm.server import process_message_content

    render_plain = transformers(template)

    def render(chat: Chat) -> Text:
        messages = copy.deepcopy(chat.messages)
        try:
            process_message_content(messages)
        except Exception as refused:  # noqa: BLE001  # it raises ValueError and the errors of json
            return Text("", str(refused))
        return render_plain(chat._replace(messages=messages))

    return render


RENDERERS: dict[str, Callable[[str], Renderer]] = {
    "mlx-sidecar": ours,
    "transformers": transformers,
    "mlx-lm's server": mlx_lm_server,
}


def faults(plain: Chat, given: Chat, got: Text, expected: Text) -> Iterator[str]:
    """Return the faults of ``got``, the text of ``given``. ``expected`` is transformers' text of the ``plain`` chat.

    "own repr" is a value printed as Python does that transformers prints so from the plain chat too.
    """
    if got.refused is not None:
        if expected.refused is None:
            yield "failed"
        return
    if _has_repr(plain, given, got.text):
        yield "own repr" if _has_repr(plain, given, expected.text) else "repr"
    if expected.text and got.text.count("None") > expected.text.count("None"):
        yield "repr"
    if list(_silently_lost(plain, got)):
        yield "lost"
    if _encoded_twice(plain, got.text) and not _encoded_twice(plain, expected.text):
        yield "twice"


def _has_repr(plain: Chat, given: Chat, text: str) -> bool:
    """Whether a list or a mapping of the chat is printed as Python does."""
    printed = {repr(each) for each in (*_containers(plain.messages), *_containers(given.messages)) if each}
    return any(each in text for each in printed)


def _containers(value: Any) -> Iterator[Any]:
    if isinstance(value, dict | list):
        yield value
        for each in value.values() if isinstance(value, dict) else value:
            yield from _containers(each)


def _silently_lost(plain: Chat, got: Text) -> Iterator[str]:
    told = {warning.kind for warning in got.warnings}
    for message in plain.messages:
        yield from _lost(message["content"], got.text, "content_left_out" in told)
        yield from _lost(message.get("name", ""), got.text, "name_left_out" in told)
        yield from _lost(message.get("tool_calls", []), got.text, "tool_calls_left_out" in told)
    names = [each["function"]["name"] for each in plain.tools or ()]
    if "tools_left_out" not in told:
        yield from (name for name in names if name not in got.text)
    calls = [each["function"]["name"] for message in plain.messages for each in message.get("tool_calls", [])]
    if "tool_calls_left_out" not in told:
        yield from (name for name in calls if name not in got.text)


def _lost(value: Any, text: str, told: bool) -> Iterator[str]:
    if not told:
        yield from (word for each in texts(value) for word in _OWN_WORD.findall(each) if word not in text)


def _encoded_twice(chat: Chat, text: str) -> bool:
    """Whether a key of arguments stands behind an escaped quotation mark."""
    calls = [each["function"] for message in chat.messages for each in message.get("tool_calls", [])]
    return any(f'\\"{key}' in text for each in calls for key in each["arguments"])
