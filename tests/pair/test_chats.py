"""Chats with parts that a template leaves out: the answer names the parts."""

from __future__ import annotations

from typing import Any

from tests.support.pair import pair

TOOLS = [{"type": "function", "function": {"name": "look", "description": "", "parameters": {"type": "object"}}}]
CHAT = [{"role": "user", "content": "Hi"}]


def kinds(result: dict[str, Any]) -> list[str]:
    return [warning["kind"] for warning in result.get("warnings", [])]


def test_what_a_template_leaves_out_is_told_by_render_and_generate() -> None:
    with pair() as process:
        for method in ("render", "generate"):
            assert "warnings" not in process.call(method, {"model": "fake", "messages": CHAT})
            told = process.call(method, {"model": "fake", "messages": CHAT, "tools": TOOLS})
            assert kinds(told) == ["tools_left_out"]
            assert "tools[0]" in told["warnings"][0]["message"]


def test_a_prompt_that_is_no_chat_has_no_warnings() -> None:
    with pair() as process:
        assert "warnings" not in process.call("generate", {"model": "fake", "prompt": "x"})


def test_a_streamed_answer_tells_it_too() -> None:
    with pair() as process:
        params = {"model": "fake", "messages": CHAT, "tools": TOOLS, "stream": "s", "echo_text": False}
        assert kinds(process.call("generate", params)) == ["tools_left_out"]
