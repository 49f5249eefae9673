"""Chats in the shapes that hosts keep them in: told apart by no template, and what one leaves out is in the answer."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from mlx_sidecar import pocket
from tests.support.sidecar import sidecar

FAKE = ("--engine", "fake")
TOOLS = [{"type": "function", "function": {"name": "look", "description": "", "parameters": {"type": "object"}}}]
CHAT = [{"role": "user", "content": "Hi"}]


def kinds(result: dict[str, Any]) -> list[str]:
    return [warning["kind"] for warning in result.get("warnings", [])]


def model_with(template: str, directory: Path) -> str:
    shutil.copytree(pocket.PATH, directory)
    (directory / "chat_template.jinja").write_text(template)
    return str(directory)


def test_what_a_template_leaves_out_is_told_by_render_and_generate() -> None:
    with sidecar(*FAKE) as process:
        for method in ("render", "generate"):
            assert "warnings" not in process.call(method, {"model": "fake", "messages": CHAT})
            told = process.call(method, {"model": "fake", "messages": CHAT, "tools": TOOLS})
            assert kinds(told) == ["tools_left_out"]
            assert "tools[0]" in told["warnings"][0]["message"]


def test_a_prompt_that_is_no_chat_has_no_warnings() -> None:
    with sidecar(*FAKE) as process:
        assert "warnings" not in process.call("generate", {"model": "fake", "prompt": "x"})


def test_a_streamed_answer_tells_it_too() -> None:
    with sidecar(*FAKE) as process:
        params = {"model": "fake", "messages": CHAT, "tools": TOOLS, "stream": "s", "echo_text": False}
        assert kinds(process.call("generate", params)) == ["tools_left_out"]


@pytest.mark.parametrize(
    "template",
    [
        "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] + '' }}"
        "{% for t in m.tool_calls or [] %}{{ t.function.arguments | tojson }}{% endfor %}{% endfor %}",
        "{% for m in messages %}<{{ m.role }}>{% for part in m.content or [] %}{{ part.text }}{% endfor %}"
        "{% for t in m.tool_calls or [] %}{{ t.function.arguments }}{% endfor %}{% endfor %}",
    ],
    ids=["strings and objects", "parts and text"],
)
def test_histories_in_any_shape_give_one_prompt(template: str, tmp_path: Path) -> None:
    def chat(content: Any, arguments: Any, nothing: dict[str, Any]) -> list[dict[str, Any]]:
        call = {"id": "c", "type": "function", "function": {"name": "look", "arguments": arguments}}
        return [{"role": "user", "content": content}, {"role": "assistant", **nothing, "tool_calls": [call]}]

    arguments = {"city": "Bern"}
    with sidecar() as process:
        model = model_with(template, tmp_path / "model")
        texts = {
            process.call("render", {"model": model, "messages": chat(content, given, nothing)})["text"]
            for content in ("Hello there", [{"type": "text", "text": "Hello there"}])
            for given in (arguments, json.dumps(arguments))
            for nothing in ({}, {"content": None}, {"content": ""})
        }
    (text,) = texts
    assert text.startswith('<user>Hello there<assistant>{"city": "Bern"}')
