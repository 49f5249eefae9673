"""Where a prompt left the nearest known one, under tokenizers of every kind and templates of many models."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlx_sidecar import pocket
from mlx_sidecar.text.cache_miss import Given, explain
from mlx_sidecar.text.provenance import regions
from mlx_sidecar.text.tokenizer import TextModel
from mlx_sidecar_protocol.generate_result import CacheExplanation

TEMPLATES = Path(__file__).parent / "templates"
SYSTEM = {"role": "system", "content": "You help with code. Today is 2026-11-27. Be brief."}
USER = {"role": "user", "content": "What does this function do?"}
TOOLS: list[dict[str, Any]] = [
    {
        "type": "function",
        "function": {
            "name": "read_file",
            "description": "Reads a file.",
            "parameters": {"type": "object", "properties": {"path": {"type": "string"}, "lines": {"type": "integer"}}},
        },
    }
]


class Nearest(NamedTuple):
    common: int
    start: int
    tokens: list[int]


@pytest.fixture(scope="module")
def text() -> TextModel:
    return TextModel.load(pocket.PATH)


def tokens_of(text: TextModel, given_: Given) -> list[int]:
    return text.encode(text.render(given_.messages, given_.tools, True, given_.template_args).text, add_special=False)


def chat(*messages: dict[str, Any], tools: Any = None) -> Given:
    return Given("messages", messages, tools)


def compared(text: TextModel, here: Given, known: list[int], *, behind: int = 64) -> CacheExplanation:
    tokens = tokens_of(text, here)
    pairs = zip(tokens, known, strict=False)
    common = next((n for n, (a, b) in enumerate(pairs) if a != b), min(len(tokens), len(known)))
    start = max(0, common - 32)
    return explain(text, here, tokens, Nearest(common, start, known[start : common + behind]), "")


def told(text: TextModel, here: Given, known: Given) -> tuple[str, list[str | int]]:
    found = compared(text, here, tokens_of(text, known))
    return found.because, [] if found.where is None else list(found.where.path)


def with_content(message: dict[str, Any], old: str, new: str) -> dict[str, Any]:
    return {**message, "content": message["content"].replace(old, new)}


def test_a_date_in_the_system_prompt_is_named(text: TextModel) -> None:
    known = chat(SYSTEM, USER)
    for new in ("2026-11-28", "2027-01-02", "2026-12-27"):
        here = chat(with_content(SYSTEM, "2026-11-27", new), USER)
        assert told(text, here, known) == ("date", ["messages", 0, "content"])


def test_a_word_that_changed_is_named_with_the_message_it_is_in(text: TextModel) -> None:
    known = chat(SYSTEM, USER)
    here = chat(SYSTEM, with_content(USER, "function", "module"))
    found = compared(text, here, tokens_of(text, known))
    assert found.where is not None
    assert (found.because, found.where.message, found.where.role) == ("changed_text", 1, "user")
    assert found.text_before is not None
    assert found.text_before.endswith("What does this")
    assert found.text_here is not None
    assert found.text_here.startswith(" module do?")
    assert found.text_known is not None
    assert found.text_known.startswith(" function do?")


def test_keys_of_a_tool_in_another_order_are_named(text: TextModel) -> None:
    parameters = TOOLS[0]["function"]["parameters"]
    turned = {**parameters, "properties": dict(reversed(parameters["properties"].items()))}
    tools = [{**TOOLS[0], "function": {**TOOLS[0]["function"], "parameters": turned}}]
    because, path = told(text, chat(SYSTEM, USER, tools=tools), chat(SYSTEM, USER, tools=TOOLS))
    assert because == "key_order"
    assert path[:3] == ["tools", 0, "function"]


def test_tools_that_were_not_there_before_are_named(text: TextModel) -> None:
    assert told(text, chat(SYSTEM, USER, tools=TOOLS), chat(SYSTEM, USER))[1][:1] == ["tools"]


def test_a_description_that_changed_is_named_by_its_path(text: TextModel) -> None:
    function = {**TOOLS[0]["function"], "description": "Reads one file."}
    tools = [{**TOOLS[0], "function": function}]
    path = ["tools", 0, "function", "description"]
    assert told(text, chat(SYSTEM, USER, tools=tools), chat(SYSTEM, USER, tools=TOOLS)) == ("changed_text", path)


def test_a_chat_that_grows_says_which_message_is_new(text: TextModel) -> None:
    answer = {"role": "assistant", "content": "It reads."}
    before = text.encode(text.render([SYSTEM, USER, answer], None, False).text, add_special=False)
    found = compared(text, chat(SYSTEM, USER, answer, {"role": "user", "content": "And then?"}), before)
    assert found.where is not None
    assert (found.because, found.where.path, found.text_known) == ("new_text", ["messages", 3, "content"], None)


def test_a_prompt_that_is_text_or_tokens_has_no_fields_within(text: TextModel) -> None:
    tokens, known = text.encode("one two three"), text.encode("one two four")
    sources: list[Literal["prompt", "tokens"]] = ["prompt", "tokens"]
    for source in sources:
        common = next(n for n, (a, b) in enumerate(zip(tokens, known, strict=False)) if a != b)
        found = explain(text, Given(source), tokens, Nearest(common, 0, known), "")
        assert found.where is not None
        assert found.where.field == source
        assert found.where.path == ([source] if source == "prompt" else [source, common])


def test_what_cannot_have_a_place_has_none(text: TextModel) -> None:
    here = chat(SYSTEM, USER)
    tokens = tokens_of(text, here)
    assert explain(text, here, tokens, None, "").because == "nothing_known"
    assert explain(text, here, tokens, Nearest(0, 0, []), "").because == "nothing_known"
    assert explain(text, here, tokens, Nearest(len(tokens), 0, tokens), "").because == "all_known"
    uncacheable = explain(text, here, tokens, None, "its caches are chunked")
    assert (uncacheable.because, uncacheable.where) == ("uncacheable", None)


@pytest.mark.parametrize("template", sorted(path.stem for path in TEMPLATES.glob("*.jinja")))
def test_the_message_is_found_under_every_template(make_model: Callable[..., Path], template: str) -> None:
    model = TextModel.load(make_model("byte_level", {"chat_template": (TEMPLATES / f"{template}.jinja").read_text()}))
    tools = TOOLS if template.endswith("_tools") else None
    messages = [{"role": "user", "content": "First question."}, {"role": "assistant", "content": "An answer."}, USER]
    other = [*messages[:2], with_content(USER, "function", "module")]
    here, known = chat(*other, tools=tools), chat(*messages, tools=tools)
    assert told(model, here, known) == ("changed_text", ["messages", 2, "content"])


def test_the_message_is_found_under_every_tokenizer(make_model: Callable[..., Path], kind: str) -> None:
    source = "{% for m in messages %}{{ m.role }}: {{ m.content | trim }}\n{% endfor %}"
    model = TextModel.load(make_model(kind, {"chat_template": source}))
    messages = [{"role": "user", "content": "add a and b"}, {"role": "user", "content": "the engine answers"}]
    other = [messages[0], {"role": "user", "content": "the stream answers"}]
    assert told(model, chat(*other), chat(*messages))[1] == ["messages", 1, "content"]


words = st.text(st.sampled_from('ab {}"\\\n\u00e9'), max_size=12)


@settings(max_examples=60)
@given(st.lists(words, min_size=1, max_size=5), st.booleans())
def test_the_regions_of_a_chat_are_its_texts(text: TextModel, contents: list[str], tools: bool) -> None:
    messages = [{"role": "user", "content": content} for content in contents]

    def render(messages: Any, tools: Any, template_args: Any) -> str:
        return text.render(messages, tools, True, template_args).text

    given_tools = TOOLS if tools else None
    rendered = render(messages, given_tools, None)
    found = regions(rendered, render, messages, given_tools, None)
    by_path = {region.path: rendered[region.start : region.stop] for region in found}
    for number, content in enumerate(contents):
        if content.strip():
            assert by_path["messages", number, "content"] == content.strip()
    assert found == sorted(found)


def plain(messages: Any, tools: Any, template_args: Any) -> str:
    return "".join(message["content"].strip() for message in messages)


@pytest.mark.parametrize("mark", ["\ue0a0{}\ue0a1", "\\ue0a0{}\\ue0a1", "\ue0a2", "\\ue0a2"])
@pytest.mark.parametrize("number", ["0", "7", "1" * 5000])
def test_a_text_that_holds_marks_is_a_text_like_any_other(mark: str, number: str) -> None:
    contents = ["one", mark.format(number), "three"]
    messages = [{"role": "user", "content": content} for content in contents]
    rendered = plain(messages, None, None)
    found = regions(rendered, plain, messages, None, None)
    assert [rendered[region.start : region.stop] for region in found] == contents


def test_texts_that_a_template_leaves_out_are_not_looked_for_without_end() -> None:
    def other(messages: Any, tools: Any, template_args: Any) -> str:
        return "another chat"

    messages = [{"role": "user", "content": f"left out {number}"} for number in range(2000)]
    messages.append({"role": "user", "content": "-"})
    assert regions("-" * 2**20 + "!", other, messages, None, None) == []


@pytest.mark.parametrize(
    ("here", "known"),
    [("Maybe we", "Maybe you"), ("v1.2 of it", "v1.3 of it"), ("pi is 3.14", "pi is 3.15"), ("Satellite", "Saturated")],
)
def test_what_is_no_date_is_not_called_one(text: TextModel, here: str, known: str) -> None:
    assert (
        told(text, chat({"role": "user", "content": here}), chat({"role": "user", "content": known}))[0]
        == "changed_text"
    )


@pytest.mark.parametrize(
    ("here", "known"),
    [
        ("on Monday", "on Tuesday"),
        ("at 10:45 now", "at 10:46 now"),
        ("5 March 2026", "5 April 2026"),
        ("1.2.2026", "1.3.2026"),
    ],
)
def test_dates_and_times_are_known_as_such(text: TextModel, here: str, known: str) -> None:
    assert told(text, chat({"role": "user", "content": here}), chat({"role": "user", "content": known}))[0] == "date"


def test_a_key_that_is_new_is_no_other_order(text: TextModel) -> None:
    here, known = '{"a": 1, "x": 2, "b": 3}', '{"a": 1, "b": 3}'
    assert (
        told(text, chat({"role": "user", "content": here}), chat({"role": "user", "content": known}))[0]
        == "changed_text"
    )
