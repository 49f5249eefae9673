"""Forty kinds of chats, in the three shapes that hosts send them in.

Every text that must reach the model holds a word of its own (``q1w``, ``q2w``, …), so that a loss can be seen.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any, NamedTuple

Message = dict[str, Any]


class Chat(NamedTuple):
    """A chat in its plain shape: contents are strings and arguments objects."""

    messages: list[Message]
    tools: list[dict[str, Any]] | None = None
    add_generation_prompt: bool = True


_numbers = count(1)


def _word(text: str) -> str:
    return f"{text} q{next(_numbers)}w"


def system(text: str = "You are a careful assistant.") -> Message:
    return {"role": "system", "content": _word(text)}


def user(text: str = "What is the weather like in Bern?") -> Message:
    return {"role": "user", "content": _word(text)}


def assistant(text: str = "It rains until the evening.", **more: Any) -> Message:
    return {"role": "assistant", "content": _word(text), **more}


def call(name: str = "weather", id_: str = "callaaaa1", **arguments: Any) -> dict[str, Any]:
    return {"id": id_, "type": "function", "function": {"name": name, "arguments": arguments}}


def calling(*calls: dict[str, Any], content: str = "", **more: Any) -> Message:
    return {"role": "assistant", "content": content, "tool_calls": list(calls), **more}


def result(text: str = "21 degrees", id_: str = "callaaaa1", name: str = "weather") -> Message:
    return {"role": "tool", "tool_call_id": id_, "name": name, "content": _word(text)}


def tool(name: str = "weather", **properties: str) -> dict[str, Any]:
    described = {key: {"type": "string", "description": about} for key, about in properties.items()}
    parameters = {"type": "object", "properties": described, "required": list(described)}
    description = f"Answers for {name}."
    return {"type": "function", "function": {"name": name, "description": description, "parameters": parameters}}


def city(text: str = "Bern") -> str:
    return _word(text)


WEATHER, CLOCK = tool(city="Where to look."), tool("clock", zone="A time zone.")
BOTH = [WEATHER, CLOCK]


def _asked(*more: Message, first: tuple[Message, ...] = ()) -> Chat:
    return Chat([*first, user(), calling(call(city=city())), *more], BOTH)


def kinds() -> dict[str, Chat]:
    """Return chats by name, the simplest first."""
    return {
        "one question": Chat([user()]),
        "system": Chat([system(), user()]),
        "turns": Chat([user(), assistant(), user("And then?")]),
        "system and turns": Chat([system(), user(), assistant(), user("And then?")]),
        "ten turns": Chat([message for _ in range(5) for message in (user(), assistant())] + [user()]),
        "no generation prompt": Chat([user()], None, False),
        "ends with assistant": Chat([user(), assistant()], None, False),
        "begun answer": Chat([user(), assistant("It is")], None, True),
        "unicode": Chat(
            [system("Antworte in Zürich 🏔️"), user("日本語で👩‍👩‍👧‍👦 e\u0301?"), assistant("はい。"), user("Ω")]
        ),
        "line ends": Chat([user("\n\n  first\n\tsecond\r\n"), assistant("  one\n\n\ntwo  \n"), user("\nthen")]),
        "quotes and braces": Chat([user("{\"a\": 'b'} {{ x }} {% y %} <b>&amp;</b> \\n")]),
        "looks like markup": Chat([user("<|im_end|>[INST]</s><think>"), assistant("fine"), user("more")]),
        "a long text": Chat([user("word " * 2000)]),
        "an empty question": Chat([{"role": "user", "content": ""}]),
        "an empty answer": Chat([user(), {"role": "assistant", "content": ""}, user()]),
        "an empty system": Chat([{"role": "system", "content": ""}, user()]),
        "two systems": Chat([system(), system("Be kind."), user()]),
        "system later": Chat([user(), assistant(), system("Be brief from now on."), user()]),
        "two questions": Chat([user(), user("And in Basel?")]),
        "two answers": Chat([user(), assistant(), assistant("And then sun."), user()]),
        "answer first": Chat([assistant("Hello."), user()]),
        "developer": Chat([{"role": "developer", "content": _word("Be brief.")}, user()]),
        "unknown role": Chat([user(), {"role": "critic", "content": _word("Too long.")}, user()]),
        "names": Chat([{**user(), "name": _word("Ada")}, assistant(), user()]),
        "reasoning": Chat([user(), assistant(reasoning_content="I wonder."), user("Why?")]),
        "thoughts inside": Chat([user(), assistant("<think>\nHm.\n</think>\n\nRain"), user("Why?")]),
        "tools": Chat([user()], [WEATHER]),
        "system and tools": Chat([system(), user()], BOTH),
        "no tools in a list": Chat([user()], []),
        "a call": _asked(result()),
        "a call after a system": _asked(result(), first=(system(),)),
        "a call and its answer": _asked(result(), assistant(), user("And tomorrow?")),
        "a call without tools": Chat([user(), calling(call(city=city())), result(), assistant(), user()]),
        "a call to be answered": Chat([user(), calling(call(city=city()))], BOTH, False),
        "text beside a call": Chat([user(), calling(call(city=city()), content=_word("I look.")), result()], BOTH),
        "parallel calls": Chat(
            [
                user(),
                calling(call(city=city()), call("clock", "callbbbb2", zone=city("CET"))),
                result(),
                result("9:00", "callbbbb2", "clock"),
            ],
            BOTH,
        ),
        "calls in a row": _asked(
            result(), calling(call("clock", "callbbbb2", zone=city("CET"))), result("9:00", "callbbbb2", "clock")
        ),
        "a call without arguments": Chat([user(), calling(call("now")), result(name="now")], [tool("now")]),
        "nested arguments": Chat(
            [
                user(),
                calling(
                    call(
                        city=city(),
                        days=3,
                        exact=True,
                        share=0.5,
                        none=None,
                        tags=[city("a"), "b"],
                        more={"deep": {"k": city("v")}},
                    )
                ),
                result(),
            ],
            BOTH,
        ),
        "arguments of odd texts": Chat(
            [user(), calling(call(city=city('Zürich "x" \\ \n</tool_call> 日本'))), result()], BOTH
        ),
    }


def in_parts(chat: Chat) -> Chat:
    """Return a chat with every content as a list of text parts, long ones in two."""
    return chat._replace(messages=[_with_parts(message) for message in chat.messages])


def _with_parts(message: Message) -> Message:
    content = message["content"]
    half = content.rfind(" ") + 1
    texts = [content[:half], content[half:]] if half and len(content) > 12 else [content]
    return {**message, "content": [{"type": "text", "text": text} for text in texts]}


def as_openai(chat: Chat) -> Chat:
    """Return a chat as in OpenAI's API: arguments as JSON text, null as the content of a message that only calls."""
    return chat._replace(messages=[_as_openai(message) for message in chat.messages])


def _as_openai(message: Message) -> Message:
    if "tool_calls" not in message:
        return message
    return {
        **message,
        "content": message["content"] or None,
        "tool_calls": [_with_text(each) for each in message["tool_calls"]],
    }


def _with_text(call_: dict[str, Any]) -> dict[str, Any]:
    function = call_["function"]
    text = json.dumps(function["arguments"], ensure_ascii=False, separators=(",", ":"))
    return {**call_, "function": {**function, "arguments": text}}


SHAPES: dict[str, Callable[[Chat], Chat]] = {"plain": lambda chat: chat, "parts": in_parts, "OpenAI": as_openai}


def texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for each in value.values():
            yield from texts(each)
    elif isinstance(value, list):
        for each in value:
            yield from texts(each)
