"""The end that a template gives an answer is found without rendering the answer, for real templates of all kinds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from itertools import takewhile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import corpus
from benchmarks.templates.judge import SPECIAL
from mlx_sidecar.text.templates import ChatTemplate
from mlx_sidecar.text.tokenizer import TextModel
from mlx_sidecar.text.turns import MarkLost, end_of_answer, marked, without_common
from mlx_sidecar_protocol.errors import RpcError

POCKET = TextModel.load(Path(__file__).parents[2] / "runtime" / "mlx_sidecar" / "pocket")
TEMPLATES = corpus.templates() if corpus.is_fetched() else {}
TOOLS = [
    {"type": "function", "function": {"name": name, "description": "d", "parameters": {"type": "object"}}}
    for name in ("weather", "other")
]
Messages = Sequence[Mapping[str, Any]]


def call(name: str, arguments: str, number: int = 1) -> dict[str, Any]:
    return {"id": f"abcdefgh{number}", "type": "function", "function": {"name": name, "arguments": arguments}}


def plain(answer: str = "An answer.") -> list[dict[str, Any]]:
    return [
        {"role": "user", "content": "A question"},
        {"role": "assistant", "content": answer},
        {"role": "user", "content": "Another one"},
    ]


def calling(*calls: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"role": "user", "content": "A question"},
        {"role": "assistant", "content": "", "tool_calls": list(calls)},
        {"role": "tool", "content": "A result", "tool_call_id": calls[-1]["id"], "name": "other"},
    ]


def ends(
    render: Callable[[Messages], str], messages: Messages, says: Sequence[str], whole: str, *, in_call: bool = False
) -> list[tuple[str, str]]:
    """Each answer of ``says``, with what follows it by its mark in a call or in its content, unless that is lost."""
    [chat] = [each for each in marked(messages, 1, whole) if each.in_call == in_call]
    found = []
    with suppress(RpcError):
        text = render(chat.messages)
        for said in says:
            with suppress(MarkLost):
                found.append((said, text[end_of_answer(text, chat, said, whole) :]))
    return found


@pytest.mark.skipif(not TEMPLATES, reason="real templates are not fetched: python -m benchmarks.corpus")
@pytest.mark.parametrize("name", TEMPLATES or ["none"])
def test_answer_and_end_make_up_what_a_real_template_renders(name: str) -> None:
    template = ChatTemplate(TEMPLATES[name], SPECIAL)

    def render(messages: Messages) -> str:
        return template.render(messages, None, True, {}).text

    try:
        whole = render(plain())
    except RpcError:
        pytest.skip("the template takes no such chat")
    [(_, end)] = ends(render, plain(), [""], whole)
    assert whole.endswith(f"An answer.{end}")


@pytest.mark.skipif(not TEMPLATES, reason="real templates are not fetched: python -m benchmarks.corpus")
@pytest.mark.parametrize(
    "calls", [(call("other", '{"city": "zqx"}'),), (call("weather", "{}", 1), call("other", "{}", 2))]
)
@pytest.mark.parametrize("name", TEMPLATES or ["none"])
def test_calls_that_end_anywhere_and_their_end_make_up_what_a_real_template_renders(name: str, calls: Any) -> None:
    template, messages = ChatTemplate(TEMPLATES[name], SPECIAL), calling(*calls)

    def render(messages: Messages, *, opens: bool = True) -> str:
        return template.render(messages, TOOLS, opens, {}).text

    try:
        whole, answer = render(messages), render(messages[:2], opens=False)
    except RpcError:
        pytest.skip("the template takes no such chat")
    same = (one == other for one, other in zip(answer, whole, strict=False))
    answer = answer[: sum(takewhile(bool, same))]  # the last message of a chat may end in another way
    word = "zqx" if "zqx" in calls[-1]["function"]["arguments"] else "other"
    last = answer.rfind(word) + len(word)
    if word not in answer[answer.rfind("A question") :]:
        pytest.skip("the template writes no calls")
    says = [answer[:cut] for cut in range(last, len(answer) + 1)]
    joined = {"".join((said + end).split()) for said, end in ends(render, messages, says, whole, in_call=True)}
    assert joined <= {"".join(whole.split())}


def turned(messages: Messages, answer: str, *, escape: bool = False) -> tuple[list[int], list[int] | None, list[int]]:
    """Pocket's tokens of a chat: up to the answer, those of its end, and of the whole."""
    rendered, whole = POCKET.chat(messages, TOOLS, escape=escape)
    tokens = POCKET.encode(answer, add_special=False)
    before, _ = POCKET.chat(messages[:1], TOOLS, escape=escape)
    tail = POCKET.behind_answer(rendered.text, 1, tokens, messages, TOOLS, escape=escape)
    return [*POCKET.encode(before.text, add_special=False), *tokens], tail, whole


@given(st.text(st.characters(codec="utf-8", exclude_characters="<\x00"), min_size=1, max_size=40), st.booleans())
def test_an_answer_s_tokens_and_its_end_are_pockets_tokens_of_the_chat(answer: str, escape: bool) -> None:
    before, tail, whole = turned(plain(answer), answer, escape=escape)
    assert tail is not None
    assert [*before, *tail] == whole


@pytest.mark.parametrize(
    "said",
    [
        '<tool_call>\n{"name": "other", "arguments": {"city": "Bern"}}\n</tool_call>',
        '<tool_call>\n{"name":"other","arguments":{"city":"Bern"}}</tool_call>',  # as no template writes it
        'Let me see.\n<tool_call>\n{"name": "other", "arguments": {"city": 5}}\n</tool_call>',
        '<think>\nHm.\n</think>\n\n<tool_call>\n{"arguments": {"city": "Bern"}, "name": "other"}\n</tool_call>\n',
        '<tool_call>\n{"name": "other", "arguments": {"city": "Bern"}}\n</tool_call> That was it.',
    ],
)
@pytest.mark.parametrize("escape", [False, True])
def test_a_call_goes_on_with_the_end_of_the_turn_however_it_was_written(said: str, escape: bool) -> None:
    _, tail, _ = turned(calling(call("other", '{"city": "Bern"}')), said, escape=escape)
    assert tail is not None
    assert POCKET.decode(tail).lstrip("\n").startswith("<|im_end|>\n<|im_start|>user\n<tool_response>\nA result\n")


def test_a_host_s_own_control_tokens_behind_an_answer_are_escaped_where_that_is_asked_for() -> None:
    messages = [*plain()[:2], {"role": "user", "content": "<|im_end|>"}]
    end = POCKET.encode("<|im_end|>", add_special=False)[0]
    counts = []
    for escape in (False, True):
        _, tail, whole = turned(messages, "An answer.", escape=escape)
        assert tail is not None
        assert whole[-len(tail) :] == tail
        counts.append(tail.count(end))
    assert counts == [3, 2]


def test_an_answer_that_says_the_mark_itself_is_told_from_it() -> None:
    before, tail, whole = turned(plain("zqanswer0zq and zqanswer1zq"), "zqanswer0zq and zqanswer1zq")
    assert tail is not None
    assert [*before, *tail] == whole


def test_a_template_that_looks_into_answers_tells_no_end() -> None:
    source = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{{ m.content | length }}{% endfor %}"
    template = ChatTemplate(source, {})
    whole = template.render(plain(), None, True, {}).text
    assert ends(lambda messages: template.render(messages, None, True, {}).text, plain(), [""], whole) == []


@given(st.lists(st.integers(0, 3), max_size=10), st.lists(st.integers(0, 3), max_size=10))
def test_tokens_that_an_answer_ends_and_the_template_goes_on_with_are_written_once(
    answer: list[int], tail: list[int]
) -> None:
    left = without_common(answer, tail)
    common = tail[: len(tail) - len(left)]
    assert [*common, *left] == tail
    assert answer[len(answer) - len(common) :] == common
