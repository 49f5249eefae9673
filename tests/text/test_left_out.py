"""A warning tells the parts of a chat that a template does not write, but not those that it changes on purpose."""

from __future__ import annotations

from typing import Any

import pytest

from .test_message_shapes import ARGUMENTS, RESULT, calling, calls, loop, parts, user, warned

TOOLS = [
    {"type": "function", "function": {"name": name, "description": about, "parameters": {"type": "object"}}}
    for name, about in (("look_up_weather", "Says what the weather will be like."), ("now", "Time."))
]
SYSTEM = {"role": "system", "content": "You are brief and friendly, always."}
PLAIN = loop("{{ message.content }}")
ONLY_USERS = "{% for m in messages if m.role == 'user' %}{{ m.content }}{% endfor %}"


def test_a_chat_that_is_written_whole_has_no_warnings() -> None:
    assert (
        warned(PLAIN, [SYSTEM, user(), {"role": "assistant", "content": "Rain."}, user(parts("And", " then?"))]) == {}
    )


def test_a_message_that_is_dropped_is_told_with_its_number_and_role() -> None:
    said = warned(ONLY_USERS, [SYSTEM, user()])
    assert said == {"content_left_out": "the model's chat template leaves out text of messages[0] (system)"}


@pytest.mark.parametrize("text", ["a", "user", "Hi", "What is the weather like in Bern?"])
def test_a_dropped_text_is_told_though_it_stands_elsewhere(text: str) -> None:
    assert (
        "messages[0] (system)"
        in warned(ONLY_USERS, [{"role": "system", "content": text}, user(text)])["content_left_out"]
    )


def test_every_part_of_a_message_counts() -> None:
    first = loop("{{ (message.content if message.content is string else message.content[0].text).split('|')[0] }}")
    assert warned(first, [user(parts("one|", "two"))]) == {}  # it cuts one text, on purpose
    only_short = loop("{% for p in message.content if p.text | length < 30 %}{{ p.text }}{% endfor %}")
    assert "content_left_out" in warned(only_short, [user(parts("short", "long" * 30))])


@pytest.mark.parametrize(
    "how",
    [
        "{{ message.content | trim }}",
        "{{ message.content | upper }}",
        "{{ message.content | tojson }}",
        "{{ message.content | tojson(ensure_ascii=true) }}",
        "{{ message.content | e }}",
        "{{ message.content.split('</think>')[-1] }}",
        "{{ message.content[:20] }}",
        "{{ message.content | replace('e', 'E') }}",
    ],
)
def test_a_text_that_is_changed_or_cut_is_not_lost(how: str) -> None:
    assert warned(loop(how), [user(" <think>hm, a 'thought'</think>Günther\nanswers. ")]) == {}


def test_an_order_of_its_own_is_no_loss() -> None:
    last = "{% for m in messages if m.role != 'system' %}{{ m.content }}{% endfor %}{{ messages[0].content }}"
    assert warned(last, [SYSTEM, user()]) == {}


def test_calls_without_a_place_are_told() -> None:
    assert "messages[1] (assistant)" in warned(PLAIN, [user(), calling(ARGUMENTS), RESULT])["tool_calls_left_out"]
    assert "tool_calls_left_out" in warned(PLAIN, [user(), calling({}), RESULT])
    assert "tool_calls_left_out" in warned(calls("{{ call.function.name }}"), [user(), calling(ARGUMENTS), RESULT])
    assert warned(calls("{{ call.function.arguments | tojson }}"), [user(), calling(ARGUMENTS), RESULT]) == {}
    assert warned(calls("{{ call.function.name }}"), [user(), calling({}), RESULT]) == {}


def test_text_that_is_dropped_beside_calls_is_told() -> None:
    either = loop(
        "{% if message.tool_calls %}{{ message.tool_calls | tojson }}{% else %}{{ message.content }}{% endif %}"
    )
    said = warned(either, [user(), calling(ARGUMENTS, content="Let me look that up for you."), RESULT])
    assert list(said) == ["content_left_out"]


def test_unparsed_arguments_that_a_template_skips_are_told() -> None:
    skips = calls("{% if call.function.arguments is mapping %}{{ call.function.arguments | tojson }}{% endif %}")
    assert "tool_calls_left_out" in warned(skips, [user(), calling("city: Bern"), RESULT])


def test_tools_without_a_place_are_told() -> None:
    assert warned(PLAIN, [user()], TOOLS)["tools_left_out"].endswith("tools[0], tools[1]")
    assert warned("{{ tools | tojson }}" + PLAIN, [user()], TOOLS) == {}
    assert warned("{{ tools[:1] | tojson }}" + PLAIN, [user()], TOOLS)["tools_left_out"].endswith(" tools[1]")
    assert warned(PLAIN, [user()], []) == {}


def test_a_tool_without_a_name_is_no_text_to_look_for() -> None:
    tool = {"type": "function", "function": {"name": " ", "description": "It has a description, and that is long."}}
    assert warned(PLAIN, [user()], [tool]) == {}


def test_a_name_without_a_place_is_told() -> None:
    assert "messages[0] (user)" in warned(PLAIN, [{**user(), "name": "Ada"}])["name_left_out"]
    assert warned(loop("{{ message.name }}: {{ message.content }}"), [{**user(), "name": "Ada"}]) == {}
    assert warned(PLAIN, [user(), {**RESULT, "name": "look_up_weather"}]) == {}


CRITIC = {"role": "critic", "content": "That was too long an answer."}


def test_a_role_that_is_written_as_any_other_is_told() -> None:
    other = "{% for m in messages %}{{ 'U: ' if m.role == 'user' else 'A: ' }}{{ m.content }}{% endfor %}"
    said = warned(other, [user(), {"role": "assistant", "content": "Rain."}, CRITIC, CRITIC])
    assert said == {"role_unknown": "the model's chat template does not know the role of messages[2] (critic)"}


def test_a_role_that_is_written_or_known_is_not_told() -> None:
    known = "{% for m in messages %}{{ {'critic': 'C: '}.get(m.role, 'A: ') }}{{ m.content }}{% endfor %}"
    assert warned(PLAIN, [user(), CRITIC]) == warned(known, [user(), CRITIC]) == {}


def test_warnings_stay_short() -> None:
    said = warned(ONLY_USERS, [user(), *[{"role": "x" * 64, "content": f"number {n}"} for n in range(5000)]])
    assert said["content_left_out"].endswith("4995 more")
    assert len(said["content_left_out"]) < 1000


def test_marks_in_a_text_are_no_marks() -> None:
    text = " ".join(f"zqm{number}z zqmq{number}z" for number in range(9))
    assert "messages[1]" in warned(ONLY_USERS, [user(text), CRITIC])["content_left_out"]


def test_a_template_that_objects_to_marks_is_looked_through_as_it_is() -> None:
    picky = (
        "{% for m in messages %}{% if m.role == 'user' and m.content != 'Hi' %}{{ raise_exception('no') }}{% endif %}"
        "{{ m.content if m.role == 'user' }}{% endfor %}"
    )
    said: Any = warned(picky, [{"role": "system", "content": "be brief"}, user("Hi")])
    assert said == {"content_left_out": "the model's chat template leaves out text of messages[0] (system)"}
