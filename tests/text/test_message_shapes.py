"""Messages of any shape reach a template in the shape that it reads."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlx_sidecar.text.templates import ChatTemplate, ChatTemplates
from mlx_sidecar_protocol.errors import InvalidParams

Chat = list[dict[str, Any]]


def parts(*texts: str) -> list[dict[str, str]]:
    return [{"type": "text", "text": text} for text in texts]


def user(content: Any = "What is the weather like in Bern?") -> dict[str, Any]:
    return {"role": "user", "content": content}


def calling(arguments: Any, **content: Any) -> dict[str, Any]:
    function = {"name": "look_up_weather", "arguments": arguments}
    return {
        "role": "assistant",
        **content,
        "tool_calls": [{"id": "abcdefghi", "type": "function", "function": function}],
    }


RESULT = {"role": "tool", "tool_call_id": "abcdefghi", "content": "Rain until the evening."}


def rendered(template: str, messages: Chat, tools: Any = None) -> str:
    return ChatTemplates({"default": template}, {}).render(messages, tools, False).text


def warned(template: str, messages: Chat, tools: Any = None) -> dict[str, str]:
    return dict(ChatTemplates({"default": template}, {}).render(messages, tools, False).warnings)


def loop(body: str) -> str:
    return "{% for message in messages %}<{{ message.role }}>" + body + "{% endfor %}"


# How templates write the content of a message. By family: a plus, a filter, a test, a slice, a split.
STRINGS_ONLY = {
    "plus": loop("{{ message['content'] + '<end>' }}"),
    "trim": loop("{{ message['content'] | trim + '<end>' }}"),
    "printed": loop("{{ message.content }}"),
    "or nothing": loop("{% set c = message.content if message.content is string else '' %}{{ c }}"),
    "split": loop("{{ message.content.split('</think>')[-1] }}"),
    "strip": loop("{{ message['content'].strip() }}"),
    "macro": "{% macro say(c) %}{{ c }}{% endmacro %}" + loop("{{ say(message.content) }}"),
    "json": loop("{{ message.content | tojson }}"),
    "raises": loop(
        "{% if message.content is not string %}{{ raise_exception('text!') }}{% endif %}{{ message.content }}"
    ),
    "alternating": "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}{{ '[' + m.content + ']' }}{% endfor %}",
    "first part": loop("{{ message.content if message.content is string else message['content'][0]['text'] }}"),
}
LISTS_TOO = {
    "loop": loop(
        "{% if message.content is string %}{{ message.content }}{% else %}"
        "{% for part in message.content %}{{ part['text'] }}{% endfor %}{% endif %}"
    ),
    "typed": loop(
        "{% if message.content is string %}{{ message.content }}{% else %}"
        "{% for part in message.content if part.type == 'text' %}{{ part.text }}{% endfor %}{% endif %}"
    ),
    "mapped": loop(
        "{{ message.content if message.content is string else message.content | map(attribute='text') | join }}"
    ),
}
LISTS_ONLY = {
    "loop": loop("{% for part in message.content %}{{ part.text }}{% endfor %}"),
    "mapped": loop("{{ message.content | map(attribute='text') | join }}"),
    "typed": loop("{% for part in message['content'] if part['type'] == 'text' %}{{ part['text'] }}{% endfor %}"),
    "strict": loop("{% for p in message.content %}{{ p.text if p.type == 'text' else 1 / 0 }}{% endfor %}"),
    "first": loop("{{ message['content'][0]['text'] }}"),
}
ALL = {**{f"strings, {k}": v for k, v in STRINGS_ONLY.items()}, **{f"both, {k}": v for k, v in LISTS_TOO.items()}} | {
    f"lists, {k}": v for k, v in LISTS_ONLY.items()
}


@pytest.mark.parametrize("template", ALL.values(), ids=ALL)
def test_a_text_is_the_same_as_a_string_and_as_one_part(template: str) -> None:
    string = rendered(template, [user("Hi there")])
    assert string == rendered(template, [user(parts("Hi there"))])
    assert "Hi there" in string
    assert "type" not in string


@pytest.mark.parametrize("template", ALL.values(), ids=ALL)
def test_several_parts_are_all_written_and_in_order(template: str) -> None:
    assert "one, two" in rendered(template, [user(parts("one, ", "two"))]).replace('"', "")


@pytest.mark.parametrize("template", ALL.values(), ids=ALL)
def test_turns_of_all_shapes_go_together(template: str) -> None:
    chat = [user("ask"), {"role": "assistant", "content": parts("answer")}, user(parts("again"))]
    text = rendered(template, chat)
    assert text == rendered(template, [user(parts("ask")), {"role": "assistant", "content": "answer"}, user("again")])
    assert all(word in text for word in ("ask", "answer", "again"))


def test_parts_are_handed_on_to_a_template_that_goes_through_them() -> None:
    numbered = loop(
        "{% if message.content is string %}{{ message.content }}{% else %}"
        "{% for part in message.content %}[{{ loop.index }}: {{ part.text }}]{% endfor %}{% endif %}"
    )
    assert rendered(numbered, [user(parts("one", "two"))]) == "<user>[1: one][2: two]"
    assert rendered(numbered, [user(parts("one"))]) == rendered(numbered, [user("one")]) == "<user>one"


def test_a_template_that_writes_nothing_without_its_variables_is_probed_with_them() -> None:
    needs = "{{ datetime + '' }}" + OBJECTS["json"]
    chat = [user(parts("?")), calling('{"x":1}')]
    template = ChatTemplates({"default": needs}, {})
    with pytest.raises(InvalidParams):
        template.render(chat)
    text = template.render(chat, template_args={"datetime": "now"}).text
    assert text == 'now<user>?<assistant>{"x": 1}'


def test_sets_of_variables_without_end_are_not_remembered_without_end() -> None:
    template = ChatTemplate(STRINGS_ONLY["plus"], {})
    for number in range(100):
        template.render([user()], None, True, {f"name{number}": "x"})
    assert len(template._shapes) <= 4


def test_no_space_between_parts_is_lost() -> None:
    trims = "{% for part in message.content %}{{ part.text | trim }}{% endfor %}"
    either = loop("{% if message.content is string %}{{ message.content }}{% else %}" + trims + "{% endif %}")
    assert rendered(loop(trims), [user(parts("one ", "two"))]) == "<user>one two"
    assert rendered(either, [user(parts("one ", "two"))]) == "<user>one two"


def test_each_role_has_a_shape_of_its_own() -> None:
    mixed = (
        "{% for m in messages %}{% if m.role == 'user' %}{% for p in m.content %}{{ p.text }};{% endfor %}"
        "{% else %}{{ m.content + '.' }}{% endif %}{% endfor %}"
    )
    chat = [
        {"role": "system", "content": parts("be", " brief")},
        user("hi"),
        {"role": "assistant", "content": parts("yes")},
    ]
    assert rendered(mixed, chat) == "be brief.hi;yes."


@pytest.mark.parametrize("content", [{}, {"content": None}, {"content": ""}, {"content": []}], ids=str)
@pytest.mark.parametrize("template", ALL.values(), ids=ALL)
def test_no_content_is_an_empty_text(template: str, content: dict[str, Any]) -> None:
    text = rendered(template, [user(), {"role": "assistant", **content}, user("well?")])
    assert "None" not in text
    assert text == rendered(template, [user(), {"role": "assistant", "content": ""}, user("well?")])


def calls(body: str, content: str = "{{ message.content or '' }}") -> str:
    return loop(content + "{% for call in message.tool_calls or [] %}" + body + "{% endfor %}")


OBJECTS = {
    "json": calls("{{ call.function.arguments | tojson }}"),
    "items": calls("{% for k, v in call.function.arguments | items %}<{{ k }}>{{ v }}{% endfor %}"),
    "items()": calls("{% for k, v in call.function.arguments.items() %}<{{ k }}>{{ v | tojson }}{% endfor %}"),
    "sorted": calls("{% for k, v in call['function']['arguments'] | dictsort %}{{ k }}={{ v }}{% endfor %}"),
    "strict": calls(
        "{% if call.function.arguments is not mapping %}{{ raise_exception('a mapping!') }}{% endif %}"
        "{{ call.function.arguments | tojson }}"
    ),
    "whole call": calls("{{ call | tojson }}"),
    "whole function": calls("{{ call.function | tojson }}"),
    "rebound": calls(
        "{% set call = call.function if call.function is defined else call %}{{ call.arguments | tojson }}"
    ),
}
BOTH = {
    "string test": calls(
        "{{ call.function.arguments if call.function.arguments is string else call.function.arguments | tojson }}"
    ),
    "mapping test": calls(
        "{% if call.function.arguments is mapping %}{{ call.function.arguments | tojson }}"
        "{% else %}{{ call.function.arguments }}{% endif %}"
    ),
}
TEXTS = {
    "plus": calls("{{ '{\"name\": \"' + call.function.name + '\", \"arguments\": ' + call.function.arguments + '}' }}"),
    "printed": calls("{{ call.function.arguments }}"),
    "string": calls("{{ call.function.arguments | string }}"),
}
CALLS = {**OBJECTS, **BOTH, **TEXTS}
ARGUMENTS = {"city": "Bern", "days": 2}


@pytest.mark.parametrize("template", CALLS.values(), ids=CALLS)
def test_arguments_are_written_alike_as_an_object_and_as_json_text(template: str) -> None:
    texts = {rendered(template, [user(), calling(a), RESULT]) for a in (ARGUMENTS, json.dumps(ARGUMENTS))}
    (text,) = texts
    assert "Bern" in text
    assert "\\" not in text
    assert "'" not in text


@pytest.mark.parametrize("template", [*OBJECTS.values(), *BOTH.values()], ids=[*OBJECTS, *BOTH])
@pytest.mark.parametrize("text", ['{"city":"Bern","days":2}', ' {\n "city": "Bern",\n "days": 2\n}\n'])
def test_json_text_is_parsed_however_it_is_spaced(template: str, text: str) -> None:
    assert rendered(template, [user(), calling(text)]) == rendered(template, [user(), calling(ARGUMENTS)])


@pytest.mark.parametrize("template", TEXTS.values(), ids=TEXTS)
def test_json_text_is_left_as_it_is_where_the_template_takes_text(template: str) -> None:
    assert '{"city":"Bern"}' in rendered(template, [user(), calling('{"city":"Bern"}')])


NO_OBJECTS = ["not json", "[1, 2]", '"text"', "7", "null", '{"a": NaN}', '{"a": 1e999}', '{"a": "\\ud800"}', "{" * 9000]


@pytest.mark.parametrize("text", NO_OBJECTS, ids=range(len(NO_OBJECTS)))
def test_what_is_no_object_in_json_stays_a_text(text: str) -> None:
    assert rendered(BOTH["string test"], [user("?"), calling(text)]) == f"<user>?<assistant>{text}"
    with pytest.raises(InvalidParams, match="a mapping!"):
        rendered(OBJECTS["strict"], [user(), calling(text)])


def test_no_arguments_may_be_an_empty_text() -> None:
    assert rendered(OBJECTS["strict"], [user("?"), calling("")]) == "<user>?<assistant>{}"


OBJECT = st.dictionaries(
    st.text(max_size=5), st.recursive(st.text() | st.integers() | st.booleans() | st.none(), st.lists)
)


AS_JSON = ChatTemplates({"default": OBJECTS["json"]}, {})


def test_a_call_as_a_result_has_it_is_written_like_one_of_openais_shape() -> None:
    template = loop(
        "{% for call in message.tool_calls %}{{ call.type ~ call.id ~ call.function | tojson }}{% endfor %}"
    )
    nested = calling('{"place": "Bern"}')
    [call] = nested["tool_calls"]
    flat = {"id": call["id"], **call["function"]}
    text = rendered(template, [user(), {**nested, "tool_calls": [flat]}, RESULT])
    assert text == rendered(template, [user(), nested, RESULT])
    assert 'functionabcdefghi{"name": "look_up_weather"' in text


@given(arguments=OBJECT)
def test_any_object_is_the_same_through_json(arguments: dict[str, Any]) -> None:
    expected = "<user>?<assistant>" + json.dumps(arguments, ensure_ascii=False)
    for ensure_ascii in (False, True):
        text = json.dumps(arguments, ensure_ascii=ensure_ascii)
        assert AS_JSON.render([user("?"), calling(text)]).text == expected


@pytest.mark.parametrize(
    "content", [{}, {"content": None}, {"content": ""}, {"content": []}, {"content": parts("")}], ids=str
)
@pytest.mark.parametrize(
    "how",
    [
        "{{ message.content }}",
        "{{ message.content or '' }}",
        "{{ message['content'] + '' }}",
        "{% if message.content is not none %}{{ message.content | trim }}{% endif %}",
        "{{ message.content | default('') | trim }}",
        "{% for part in message.content %}{{ part.text }}{% endfor %}",
        "{{ '' if message.content is none else message.content }}",
    ],
)
def test_a_call_without_a_content_is_written_and_none_is_not(how: str, content: dict[str, Any]) -> None:
    text = rendered(calls("{{ call.function.arguments | tojson }}", how), [user("?"), calling(ARGUMENTS, **content)])
    assert text.endswith("<assistant>" + json.dumps(ARGUMENTS))
    assert "None" not in text


@pytest.mark.parametrize("content", [{}, {"content": None}, {"content": ""}], ids=str)
@pytest.mark.parametrize("test", ["message.content is none", "message.content is not defined", "message.content == ''"])
def test_a_template_that_writes_calls_only_beside_one_kind_of_nothing_gets_it(
    test: str, content: dict[str, Any]
) -> None:
    body = "{% if message.tool_calls and TEST %}{{ message.tool_calls[0].function.arguments | tojson }}{% endif %}"
    assert (
        rendered(loop(body.replace("TEST", test)), [user(), calling(ARGUMENTS, **content), RESULT]).count("Bern") == 1
    )


def test_null_members_and_empty_calls_are_no_members() -> None:
    body = "{{ message.content }}{{ message.tool_calls is defined }}{{ 'name' in message }}"
    message: dict[str, Any] = {"role": "assistant", "content": "a", "tool_calls": [], "name": None}
    assert rendered(loop(body), [message]) == "<assistant>aFalseFalse"


def test_a_template_that_objects_to_everything_gets_strings_and_what_came() -> None:
    strict = "{% if messages | length != 7 %}{{ raise_exception('seven!') }}{% endif %}" + loop(
        "{{ message.content }}{{ message.tool_calls[0].function.arguments if message.tool_calls }}"
    )
    chat = [user(parts("a", "b")), calling('{"x":1}'), *[user("c")] * 5]
    assert rendered(strict, chat) == '<user>ab<assistant>{"x":1}' + "<user>c" * 5
    with pytest.raises(InvalidParams, match="seven!"):
        rendered(strict, [user()])


def test_probing_needs_few_renderings_and_they_are_kept() -> None:
    template = ChatTemplate(CALLS["json"], {})
    asked: list[int] = []
    probe = template.shapes({})._probes._render

    def counted(messages: Any, tools: Any) -> str:
        asked.append(len(messages))
        return probe(messages, tools)

    template.shapes({})._probes._render = counted
    chat = [{"role": "system", "content": "s"}, user(), calling(ARGUMENTS), RESULT, {"role": "critic", "content": "c"}]
    template.render(chat, None, True, {})
    assert len(asked) < 40
    asked.clear()
    template.render(chat, None, True, {})
    assert not asked


def test_roles_without_end_are_not_remembered_without_end() -> None:
    template = ChatTemplate(STRINGS_ONLY["plus"], {})
    for number in range(1000):
        template.render([user(), {"role": f"role{number}", "content": "x"}], None, True, {})
    assert len(template.shapes({})._probes._reads) <= 64
    assert len(template.shapes({})._probes._known_roles) <= 64
