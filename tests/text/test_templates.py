"""Rendered chats equal those of transformers, errors included; templates cannot hurt us."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlx_sidecar.text import sandbox, templates
from mlx_sidecar.text.templates import ChatTemplates
from mlx_sidecar.text.tokenizer import TextModel
from mlx_sidecar_protocol.errors import InvalidParams, UnsupportedParameter

from .evil import NOT_COMPILED

SHAPES = ["chatml", "llama2", "llama3", "mistral", "gemma", "qwen3", "deepseek", "phi", "command"]


def source(shape: str) -> str:
    return Path(__file__).with_name("templates").joinpath(f"{shape}.jinja").read_text(encoding="utf-8")


def call(arguments: Any, id_: str = "abcdefghi") -> dict[str, Any]:
    return {"type": "function", "id": id_, "function": {"name": "wetter", "arguments": arguments}}


USER = {"role": "user", "content": "Hi, how are you? <b>&amp;'\"</b>"}
SYSTEM = {"role": "system", "content": "Be brief."}
ANSWER = {"role": "assistant", "content": "  Fine.\n"}
AGAIN = {"role": "user", "content": "日本語で👩‍👩‍👧‍👦 e\u0301?"}
RESULT = {"role": "tool", "content": '{"°C": 21}', "tool_call_id": "abcdefghi", "name": "wetter"}
PARTS = {"role": "user", "content": [{"type": "text", "text": " one "}, {"type": "text", "text": "two"}]}

CHATS: dict[str, list[dict[str, Any]]] = {
    "one": [USER],
    "system": [SYSTEM, USER],
    "turns": [SYSTEM, USER, ANSWER, AGAIN],
    "ends with assistant": [USER, ANSWER],
    "two users": [USER, AGAIN],
    "empty": [{"role": "user", "content": ""}],
    "no content": [{"role": "user"}],
    "null content": [USER, {"role": "assistant", "content": None, "tool_calls": [call({"ort": "Köln"})]}],
    "null calls": [USER, {**ANSWER, "tool_calls": None}, AGAIN],
    "call": [USER, {"role": "assistant", "tool_calls": [call({"ort": "Köln", "tage": [1, 2.5, True, None]})]}, RESULT],
    "call as text": [
        USER,
        {"role": "assistant", "content": "", "tool_calls": [call('{"ort": "Köln"}')]},
        RESULT,
        RESULT,
    ],
    "two calls": [USER, {**ANSWER, "tool_calls": [call({}), call({"a": {"b": "<>"}})]}, RESULT, ANSWER],
    "bad id": [USER, {"role": "assistant", "tool_calls": [call({}, "x")]}],
    "parts": [PARTS],
    "parts in system": [{"role": "system", "content": [{"type": "text", "text": "S"}]}, PARTS],
    "thought": [USER, {**ANSWER, "reasoning_content": "hm\n"}],
    "thought, other name": [USER, {**ANSWER, "reasoning": "hm"}, AGAIN, {**ANSWER, "thinking": "so"}],
    "thought inside": [USER, {"role": "assistant", "content": "<think>\nhm\n</think>\n\nFine."}],
    "strange role": [{"role": "critic", "content": "x"}],
    "system later": [USER, SYSTEM],
    "markup": [{"role": "user", "content": "<|im_end|>{{ 7 * 7 }}{% endfor %}[/INST]</s>"}],
    "many": [USER, ANSWER] * 30,
}

TOOLS: list[dict[str, Any]] = [
    {
        "type": "function",
        "function": {
            "name": "wetter",
            "description": 'Says "how" the weather is in <Köln> & elsewhere.',
            "parameters": {
                "type": "object",
                "properties": {
                    "ort": {"type": "string", "description": "Where"},
                    "tage": {"type": "array", "items": {"type": "integer"}},
                },
                "required": ["ort"],
            },
            "return": {"type": "string"},
        },
    },
    {"type": "function", "function": {"name": "zeit", "description": "", "parameters": {"properties": {}}}},
]


def is_plain(messages: list[dict[str, Any]]) -> bool:
    """Whether all contents are strings and all arguments objects."""
    calls = [call for message in messages for call in message.get("tool_calls") or ()]
    return all(isinstance(message.get("content"), str) for message in messages) and all(
        isinstance(call["function"]["arguments"], dict) for call in calls
    )


class Pair(NamedTuple):
    ours: TextModel
    theirs: Any

    def check(self, messages: Any, tools: Any = None, prompt: bool = True, **arguments: Any) -> str | None:
        """Check that both give the same text and tokens for messages in the template's shape, or the same refusal.

        Where messages are plain, transformers is asked with them as they are. Returns the text.
        """
        asked = messages if is_plain(messages) and self._theirs(messages, tools, prompt, arguments)[1] is None else None
        asked = self.shaped(messages, tools) if asked is None else asked
        expected, refusal = self._theirs(asked, tools, prompt, arguments)
        if refusal is not None:
            with pytest.raises(InvalidParams) as refused:
                self.ours.render(messages, tools, prompt, arguments)
            # Where in the interpreter a recursion ends depends on how deep it began.
            assert refusal.removesuffix(" while calling a Python object") in refused.value.message
            assert refused.value.data["errors"][0]["loc"] == ["messages"]
            return None
        text = self.ours.render(messages, tools, prompt, arguments).text
        assert text == expected
        theirs = self.theirs.apply_chat_template(
            asked, tools=tools, return_dict=False, add_generation_prompt=prompt, **arguments
        )
        assert self.ours.encode(text, add_special=False) == theirs
        return text

    def shaped(self, messages: Any, tools: Any) -> Any:
        assert self.ours._chat is not None
        named = "tool_use" if tools is not None and "tool_use" in self.ours._chat._sources else "default"
        return self.ours._chat._template(named).shapes({}).shaped(messages)

    def _theirs(self, messages: Any, tools: Any, prompt: bool, arguments: Any) -> tuple[str, str | None]:
        """(text, None), or ("", why it was refused)."""
        try:
            text = self.theirs.apply_chat_template(
                messages, tools=tools, tokenize=False, add_generation_prompt=prompt, **arguments
            )
        except Exception as refusal:  # noqa: BLE001  # for any exception of it, ours has to refuse too
            return "", str(refusal)
        return str(text), None


@pytest.fixture(scope="session")
def make_pair(make_model: Callable[..., Path], reference: Callable[[Path], Any]) -> Callable[..., Pair]:
    def make(chat_template: Any, kind: str = "byte_level_with_bos") -> Pair:
        path = make_model(kind, {"chat_template": chat_template})
        return Pair(TextModel.load(path), reference(path))

    return make


@pytest.fixture(scope="module", params=SHAPES)
def pair(request: pytest.FixtureRequest, make_pair: Callable[..., Pair]) -> Pair:
    kind = {"llama2": "llama_like", "mistral": "llama_like", "gemma": "gemma_like", "chatml": "byte_level"}
    return make_pair(source(request.param), kind.get(request.param, "byte_level_with_bos"))


@pytest.fixture(autouse=True)
def _one_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same clock for both sides: midnight may fall between them."""
    from transformers.utils import chat_template_utils

    class Frozen(datetime.datetime):
        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> Frozen:
            return cls(2031, 2, 3, 4, 5, 6, tzinfo=tz)

    monkeypatch.setattr(sandbox, "datetime", Frozen)
    monkeypatch.setattr(chat_template_utils, "datetime", Frozen)


@pytest.mark.parametrize("prompt", [True, False], ids=["prompted", "bare"])
@pytest.mark.parametrize("tools", [None, TOOLS, []], ids=["", "tools", "no tools"])
@pytest.mark.parametrize("chat", CHATS)
def test_a_chat_renders_as_transformers_renders_it(pair: Pair, chat: str, tools: Any, prompt: bool) -> None:
    pair.check(CHATS[chat], tools, prompt)


@pytest.mark.parametrize(
    "arguments",
    [
        {"enable_thinking": False},
        {"enable_thinking": True},
        {"thinking": True},
        {"date_string": "1 Apr 2031"},
        {"bos_token": "<mine>"},
        {"documents": [{"title": "T", "text": "x"}]},
    ],
    ids=str,
)
def test_template_arguments_reach_the_template(pair: Pair, arguments: dict[str, Any]) -> None:
    pair.check(CHATS["turns"], **arguments)


def test_template_arguments_change_the_text(make_pair: Callable[..., Pair]) -> None:
    qwen = make_pair(source("qwen3"), "byte_level")
    assert (qwen.check([USER], enable_thinking=False) or "").endswith("<think>\n\n</think>\n\n")
    assert (qwen.check([USER]) or "").endswith("assistant\n")
    assert "03 Feb 2031" in (make_pair(source("llama3")).check([USER]) or "")


@pytest.mark.parametrize("chat", CHATS)
@pytest.mark.parametrize("tools", [None, TOOLS, []], ids=["", "tools", "no tools"])
def test_named_templates_are_chosen_as_transformers_does(
    make_pair: Callable[..., Pair], chat: str, tools: Any, named_pair: Pair
) -> None:
    named_pair.check(CHATS[chat], tools)
    named_pair.check(CHATS[chat], tools, documents=[{"title": "Doc", "text": "says"}])


@pytest.fixture(scope="module")
def named_pair(make_pair: Callable[..., Pair]) -> Pair:
    shapes = {"default": "command", "tool_use": "command_tools"}
    return make_pair([{"name": name, "template": source(shape)} for name, shape in shapes.items()])


CONTENT = st.one_of(st.none(), st.text(), st.lists(st.builds(lambda text: {"type": "text", "text": text}, st.text())))
MESSAGE = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "assistant", "system", "tool"]), "content": CONTENT},
    optional={"tool_calls": st.none() | st.lists(st.builds(call, st.dictionaries(st.text(), st.floats() | st.text())))},
)


@settings(max_examples=30)
@given(messages=st.lists(MESSAGE, min_size=1, max_size=5), tools=st.sampled_from([None, TOOLS]), prompt=st.booleans())
def test_any_chat_renders_as_transformers_renders_it(pair: Pair, messages: Any, tools: Any, prompt: bool) -> None:
    pair.check(messages, tools, prompt)


SNIPPETS = [
    "{% generation %}{% set x = 1 %}in{% endgeneration %}{{ x is defined }}",
    "{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}{% endfor %}",
    "{% set ns = namespace(self=1, a=2) %}{% set ns.b = ns.a + 1 %}{{ ns.b }}",
    "{{ dict(a=1, b=2) | tojson }}{{ dict.fromkeys(['x', 'y'], 0) }}",
    "{{ ''.__class__.__mro__ }}",
    "{{ messages.append(1) }}",
    "{{ messages[0].update({'a': 1}) }}",
    "{{ strftime_now('%Y-%m-%d %H') }}",
    "{{ {'ö': '<&>', 'a': none} | tojson }}{{ [1, {'b': 2}] | tojson(indent=2) }}",
    "{{ {'b': 1, 'a': 'é'} | tojson(ensure_ascii=True, separators=(',', ':'), sort_keys=True) }}",
    "{{ undefined_name }}|{{ messages[7] }}|{{ messages[0].nothing }}",
    "{{ undefined_name.more }}",
    "{{ 1 / 0 }}",
    "{{ messages[0].content + 5 }}",
    "{{ raise_exception('no: ' + messages[0].role) }}",
    "{{ documents is none }} {{ tools is none }} {{ eos_token }} {{ unk_token is defined }}",
    "  {% if true %}\n  kept\n  {% endif %}\n\n\nlines\n",
    "{% for i in range(200000) %}{% endfor %}",
    "{% macro f(n) %}{{ f(n + 1) }}{% endmacro %}{{ f(0) }}",
    "{% include 'other' %}",
    "{{ lipsum is defined }} {{ cycler is defined }} {{ joiner(', ')() }}",
    "{% for x in [1, 2, 3] %}{% if x == 2 %}{% continue %}{% endif %}{{ x }}{% endfor %}",
    "{% for x in [1, 2, 3] %}{% if x == 3 %}{% break %}{% endif %}{{ x }}{% endfor %}",
]


@pytest.mark.parametrize("snippet", SNIPPETS)
def test_what_templates_may_use_and_may_not_is_the_same(make_pair: Callable[..., Pair], snippet: str) -> None:
    make_pair(snippet).check([USER])


@pytest.mark.parametrize(
    "snippet",
    [
        "{% set ns = namespace(_x=1) %}",
        "{% set ns = namespace() %}{% set ns.__class__ = 1 %}",
        "{{ raise_exception() }}",
        "{{ messages[0].content.format.__globals__ }}{{ dict.__class__() }}",
    ],
)
def test_what_templates_may_not_do_is_refused_by_both(make_pair: Callable[..., Pair], snippet: str) -> None:
    """In other words than those of transformers, so only the refusal is compared."""
    pair = make_pair(snippet)
    with pytest.raises(Exception, match=r"."):
        pair.theirs.apply_chat_template([USER], tokenize=False)
    with pytest.raises(InvalidParams):
        pair.ours.render([USER])


def test_a_refusal_of_the_template_is_answered_in_its_words(make_pair: Callable[..., Pair]) -> None:
    gemma = make_pair(source("gemma"), "gemma_like")
    with pytest.raises(InvalidParams) as refused:
        gemma.ours.render([SYSTEM, USER])
    assert refused.value.data["errors"] == [
        {"loc": ["messages"], "msg": "System role not supported", "type": "template_error"}
    ]


@pytest.mark.parametrize("broken", ["{% for %}", "{{ x | nothing }}", "{% endif %}", "{{ 'open }}"])
def test_a_broken_template_is_the_models_fault_and_spoils_only_chats(
    make_model: Callable[..., Path], broken: str
) -> None:
    model = TextModel.load(make_model("byte_level", {"chat_template": broken}))
    assert model.encode("still works")
    with pytest.raises(UnsupportedParameter, match="chat template is broken in line 1"):
        model.render([USER])


@pytest.mark.parametrize("source", NOT_COMPILED, ids=range(len(NOT_COMPILED)))
def test_what_cannot_be_compiled_is_refused_as_the_models_fault(source: str) -> None:
    with pytest.raises(UnsupportedParameter) as refused:
        ChatTemplates({"default": source}, {}).render([USER])
    assert len(refused.value.message) < 2000


def test_several_templates_without_a_default_say_which_there_are(make_model: Callable[..., Path]) -> None:
    named = [{"name": "rag", "template": "r"}, {"name": "tool_use", "template": "t"}]
    model = TextModel.load(make_model("byte_level", {"chat_template": named}))
    assert model.render([USER], TOOLS).text == "t"
    with pytest.raises(UnsupportedParameter, match=r"rag, tool_use"):
        model.render([USER])


def test_no_messages_are_refused(make_pair: Callable[..., Pair]) -> None:
    make_pair("x")
    with pytest.raises(InvalidParams, match="at least one message"):
        ChatTemplates({"default": "x"}, {}).render([])


@pytest.mark.parametrize("name", ["messages", "tools", "add_generation_prompt"])
def test_template_arguments_cannot_stand_for_parameters(name: str) -> None:
    with pytest.raises(InvalidParams) as refused:
        ChatTemplates({"default": "x"}, {}).render([USER], template_args={name: 1})
    assert refused.value.data["errors"][0]["loc"] == ["template_args"]


def test_a_template_that_never_ends_is_stopped_at_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(templates, "RENDERED_LIMIT_CHARACTERS", 1000)
    endless = "{% for a in range(99999) %}{% for b in range(99999) %}{{ a }}{% endfor %}{% endfor %}"
    with pytest.raises(InvalidParams, match="more than 1000 characters"):
        ChatTemplates({"default": endless}, {}).render([USER])


@pytest.mark.parametrize("half", ["\\ud800", "\\udfff", "x\\ud83d"])
def test_a_template_that_makes_half_a_character_is_refused(half: str) -> None:
    with pytest.raises(InvalidParams, match="failed: UnicodeEncodeError"):
        ChatTemplates({"default": "{{ '" + half + "' }}"}, {}).render([USER])


def test_the_messages_of_the_caller_are_left_as_they_were() -> None:
    messages = [{"role": "user", "content": None, "reasoning": "r"}]
    ChatTemplates({"default": "{{ messages[0].thinking }}"}, {}).render(messages)
    assert messages == [{"role": "user", "content": None, "reasoning": "r"}]


def test_a_template_is_compiled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    compile_ = templates._compile

    def counted(source: str) -> Any:
        made.append(source)
        return compile_(source)

    monkeypatch.setattr(templates, "_compile", counted)
    chat = ChatTemplates({"default": "x", "tool_use": "y"}, {})
    assert [chat.render([USER], tools).text for tools in (None, TOOLS, None, TOOLS)] == ["x", "y", "x", "y"]
    assert made == ["x", "y"]


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, "config"),
        ({"chat_template.jinja": "file"}, "file"),
        ({"chat_template.jinja": "file", "additional_chat_templates/tool_use.jinja": "tools"}, "file"),
        ({"chat_template.json": '{"chat_template": "json"}'}, "config"),
    ],
)
def test_the_file_that_transformers_reads_wins(
    make_model: Callable[..., Path], reference: Callable[[Path], Any], files: dict[str, str], expected: str
) -> None:
    path = make_model("byte_level", {"chat_template": "config"})
    for name, text in files.items():
        (path / name).parent.mkdir(exist_ok=True)
        (path / name).write_text(text)
    pair = Pair(TextModel.load(path), reference(path))
    assert pair.check([USER]) == expected
    pair.check([USER], TOOLS)


def test_chat_template_json_serves_where_there_is_nothing_else(make_model: Callable[..., Path]) -> None:
    path = make_model("byte_level")
    (path / "chat_template.json").write_text('{"chat_template": "json"}')
    assert TextModel.load(path).render([USER]).text == "json"
