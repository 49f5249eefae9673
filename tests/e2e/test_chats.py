"""Chats in the shapes of hosts: no template tells them apart, and the answer names the parts that one leaves out."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from mlx_sidecar import pocket
from tests.support.sidecar import Sidecar


def model_with(template: str, directory: Path) -> str:
    shutil.copytree(pocket.PATH, directory)
    (directory / "chat_template.jinja").write_text(template)
    return str(directory)


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
def test_histories_in_any_shape_give_one_prompt(shared: Sidecar, template: str, tmp_path: Path) -> None:
    def chat(content: Any, arguments: Any, nothing: dict[str, Any]) -> list[dict[str, Any]]:
        call = {"id": "c", "type": "function", "function": {"name": "look", "arguments": arguments}}
        return [{"role": "user", "content": content}, {"role": "assistant", **nothing, "tool_calls": [call]}]

    arguments = {"city": "Bern"}
    model = model_with(template, tmp_path / "model")
    texts = {
        shared.call("render", {"model": model, "messages": chat(content, given, nothing)})["text"]
        for content in ("Hello there", [{"type": "text", "text": "Hello there"}])
        for given in (arguments, json.dumps(arguments))
        for nothing in ({}, {"content": None}, {"content": ""})
    }
    (text,) = texts
    assert text.startswith('<user>Hello there<assistant>{"city": "Bern"}')


DUMB = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
TOOLS = [{"type": "function", "function": {"name": "look", "description": "", "parameters": {"type": "object"}}}]


def test_an_answer_tells_what_its_template_leaves_out_and_that_it_knows_no_calls(
    shared: Sidecar, tmp_path: Path
) -> None:
    asked = {"model": model_with(DUMB, tmp_path / "model"), "messages": [{"role": "user", "content": "Hi"}]}
    generated = {**asked, "max_tokens": 2, "stream": "s", "echo_text": False}
    for params, told in (
        (generated, []),
        ({**generated, "tools": TOOLS}, ["tools_left_out", "tool_calls_not_parsed"]),
        ({**generated, "tools": TOOLS, "tool_choice": "none"}, ["tools_left_out"]),
        ({**generated, "tools": TOOLS, "output": "raw"}, ["tools_left_out"]),
        ({**generated, "tools": TOOLS, "tool_format": "hermes"}, ["tools_left_out"]),
    ):
        result = shared.call("generate", params)
        assert [warning["kind"] for warning in result.get("warnings", [])] == told
    [warning] = shared.call("render", {**asked, "tools": TOOLS})["warnings"]
    assert (warning["kind"], "tools[0]" in warning["message"]) == ("tools_left_out", True)
