"""The server of a text process, without the process, compiles templates once, when the front says so."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from mlx_sidecar import pocket
from mlx_sidecar.link.text_messages import (
    CompileTemplates,
    Encode,
    Encoded,
    ModelFolder,
    RenderChat,
    RenderedChat,
    TemplatesCompiled,
    TextRefused,
)
from mlx_sidecar.text import templates
from mlx_sidecar.text.server import TextServer
from tests.support.pockets import pocket_with

POCKET = ModelFolder("pocket", str(pocket.PATH))
LONG = "A text that is long enough to be found in a rendered chat."


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Count the templates compiled and the chats rendered, those that probe a template included."""
    counts: Counter[str] = Counter()

    def counted(name: str, function: Any) -> Any:
        def count(*args: Any, **kwargs: Any) -> Any:
            counts[name] += 1
            return function(*args, **kwargs)

        return count

    monkeypatch.setattr(templates, "_compile", counted("compiled", templates._compile))
    monkeypatch.setattr(templates, "_render", counted("rendered", templates._render))
    return counts


def server() -> TextServer:
    return TextServer(lambda processor_s: None)


def chat(folder: ModelFolder, *messages: dict[str, Any]) -> RenderChat:
    given = {"messages": messages, "tools": None, "add_generation_prompt": True, "template_args": None, "escape": False}
    return RenderChat(2, folder, json.dumps(given).encode(), want_text=True)


def test_templates_are_compiled_and_probed_before_the_first_chat_and_not_again_for_it(done: Counter[str]) -> None:
    text = server()
    assert text.answer(CompileTemplates(1, POCKET)) == TemplatesCompiled(1)
    assert done.pop("compiled") == 1
    assert done.pop("rendered") > 1
    turns = [{"role": role, "content": f"{role}: {LONG}"} for role in ("system", "user", "assistant", "user")]
    assert isinstance(text.answer(chat(POCKET, *turns)), RenderedChat)
    assert done == {"rendered": 1}


def test_templates_that_were_compiled_are_not_compiled_again(done: Counter[str]) -> None:
    text = server()
    text.answer(CompileTemplates(1, POCKET))
    done.clear()
    assert text.answer(CompileTemplates(3, POCKET)) == TemplatesCompiled(3)
    assert not done


def test_a_template_for_tools_is_compiled_as_well(done: Counter[str], tmp_path: Path) -> None:
    named = [{"name": name, "template": "{{ messages[0].content }}"} for name in ("default", "tool_use", "rag")]
    settings = json.dumps({"chat_template": named})
    path = pocket_with(tmp_path / "m", {"chat_template.jinja": None, "tokenizer_config.json": settings})
    assert server().answer(CompileTemplates(1, ModelFolder("m", str(path)))) == TemplatesCompiled(1)
    assert done["compiled"] == 2  # no chat is rendered with the third


def test_a_model_without_templates_has_none_to_compile(done: Counter[str], tmp_path: Path) -> None:
    path = pocket_with(tmp_path / "m", {"chat_template.jinja": None})
    assert server().answer(CompileTemplates(1, ModelFolder("m", str(path)))) == TemplatesCompiled(1)
    assert not done


def test_a_broken_template_is_refused_when_it_is_compiled_and_again_for_each_chat_and_for_no_prompt(
    tmp_path: Path,
) -> None:
    folder = ModelFolder("m", str(pocket_with(tmp_path / "m", {"chat_template.jinja": "{% if %}"})))
    text = server()
    compiled = text.answer(CompileTemplates(1, folder))
    rendered = text.answer(chat(folder, {"role": "user", "content": LONG}))
    assert isinstance(compiled, TextRefused)
    assert isinstance(rendered, TextRefused)
    assert compiled.fault == rendered.fault
    assert isinstance(text.answer(Encode(3, folder, LONG, add_special=True)), Encoded)
