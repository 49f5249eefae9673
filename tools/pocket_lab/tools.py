"""Chats with tools that are described in the system turn and called with copied arguments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from .chat import Chat, Message, Probe, turn
from .talk import CITIES, NAMES, THINGS, made_up, small_talk
from .vary import expand, typed

SKIES = ("sunny", "cloudy", "rainy", "windy", "foggy", "clear", "stormy", "snowy")
ROOMS = ("kitchen", "bedroom", "office", "garage", "garden", "hall", "bathroom", "cellar")


@dataclass(frozen=True)
class Kind:
    """A family of tools: its names, descriptions, names of its one argument, and questions that need it."""

    names: tuple[str, ...]
    does: tuple[str, ...]
    argument: tuple[str, ...]
    ask: tuple[str, ...]
    values: Sequence[str]
    number: bool = False


KINDS = (
    Kind(("get_weather", "weather", "weather_now", "current_weather", "get_forecast"), ("Current weather of a city", "Get the weather", "Weather in a place"), ("city", "location", "place", "town"),
         ("(what is|what's|how is) the weather (in|like in|for) {}", "is it (cold|warm|raining|sunny|nice) in {}(| now| today)", "weather in {}", "(tell me|get|check|look up) the weather in {}", "do i need an umbrella in {}"), CITIES),
    Kind(("get_time", "time_in", "local_time", "clock"), ("Local time of a city", "Get the time"), ("city", "location", "place", "zone"),
         ("what time is it in {}(| now)", "(tell me|what is) the time in {}", "how late is it in {}", "time in {}"), CITIES),
    Kind(("set_timer", "start_timer", "timer"), ("Start a timer", "Set a timer in minutes"), ("minutes", "duration_minutes", "length"),
         ("(set|start) a timer (for|of) {} minutes", "(remind|wake) me in {} minutes", "timer {} minutes"), tuple(str(n) for n in range(1, 100)), True),
    Kind(("turn_on_light", "light_on", "switch_light"), ("Turn on the light of a room", "Switch a light on"), ("room", "where", "place"),
         ("(turn|switch) on the light in the {}", "(make|let there be) light in the {}", "the {} is dark, light please", "light in the {}"), ROOMS),
    Kind(("search", "web_search", "find", "lookup"), ("Search the web", "Find pages"), ("query", "text", "q"),
         ("(search|look|search the web) for {}", "find (something|pages) about {}", "search {}", "look up {}"), tuple(f"{a} {b}" for a in ("red", "old", "cheap", "new") for b in THINGS)),
    Kind(("call_person", "phone", "make_call"), ("Call somebody", "Phone a person"), ("name", "person", "who"),
         ("(call|phone|ring) {}(| for me| now)", "i (want|need) to (talk to|speak with) {}", "make a call to {}"), NAMES),
    Kind(("read_file", "open_file", "cat_file"), ("Read a file", "Show the text of a file"), ("path", "file", "filename"),
         ("(read|open|show me|print) the file {}", "what is in (the file |){}", "(cat|show) {}"), tuple(f"{thing}.{end}" for thing in THINGS for end in ("txt", "md", "py", "json"))),
)  # fmt: skip


@dataclass(frozen=True)
class Tool:
    """One tool of one chat, with its own name, description and argument name."""

    kind: Kind
    name: str
    argument: str
    description: str

    @property
    def schema(self) -> dict[str, Any]:
        """The tool as a host sends it: a function with a JSON Schema of its parameters."""
        typename = "integer" if self.kind.number else "string"
        parameters = {"type": "object", "properties": {self.argument: {"type": typename}}, "required": [self.argument]}
        return {
            "type": "function",
            "function": {"name": self.name, "description": self.description, "parameters": parameters},
        }

    def call(self, value: str) -> Message:
        """The assistant's turn that calls this tool."""
        arguments = {self.argument: int(value) if self.kind.number else value}
        return {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"type": "function", "function": {"name": self.name, "arguments": arguments}}],
        }


def _tool(kind: Kind, rng: Random) -> Tool:
    usual = rng.random() < 0.5
    name = kind.names[0] if usual else rng.choice(kind.names)
    if not usual and rng.random() < 0.3:
        name = f"{name}_{made_up(rng).lower()}"
    return Tool(kind, name, kind.argument[0] if usual else rng.choice(kind.argument), rng.choice(kind.does))


def _question(kind: Kind, rng: Random) -> tuple[str, str]:
    value = rng.choice(kind.values)
    if (kind.values is CITIES or kind.values is NAMES) and rng.random() < 0.5:
        value = made_up(rng)
    asked = expand(rng.choice(kind.ask), rng)
    # The value is put in after typing, because a slip of the keys inside it would only be copied.
    return typed(asked.format("\0"), rng).replace("\0", value), value


def _told(tool: Tool, value: str, rng: Random) -> tuple[str, str]:
    """A result of the tool as JSON text, and the answer that tells it."""
    first = tool.kind.names[0]
    if first == "get_weather":
        degrees, sky = rng.randrange(-9, 40), rng.choice(SKIES)
        return (
            f'{{"{tool.argument}": "{value}", "temperature_c": {degrees}, "sky": "{sky}"}}',
            f"In {value} it is {sky} and {degrees} degrees.",
        )
    if first == "get_time":
        clock = f"{rng.randrange(24):02}:{rng.randrange(60):02}"
        return f'{{"{tool.argument}": "{value}", "time": "{clock}"}}', f"It is {clock} in {value}."
    if rng.random() < 0.3:
        return '{"error": "not available"}', "I am sorry, that did not work: not available."
    return '{"ok": true}', "It is done."


def tool_chat(rng: Random) -> Chat:
    """A chat with one to three tools: a call, a call with its result told, or a question that needs none of them."""
    kinds = rng.sample(KINDS, rng.choice((1, 1, 1, 2, 2, 3)))
    tools = [_tool(kind, rng) for kind in kinds]
    system = (
        (
            turn(
                "system",
                rng.choice(("You are a helpful assistant.", "You are pocket.", "Be brief.")),
            ),
        )
        if rng.random() < 0.3
        else ()
    )
    used = tools[0]
    rng.shuffle(tools)
    schemas = tuple(tool.schema for tool in tools)
    if rng.random() < 0.12:
        return Chat((*system, *small_talk(rng).messages), schemas)
    asked, value = _question(used.kind, rng)
    opened = (*system, turn("user", asked), used.call(value))
    if rng.random() < 0.55:
        return Chat(opened, schemas)
    result, answer = _told(used, value, rng)
    return Chat((*opened, turn("tool", result), turn("assistant", answer)), schemas)


def no_tool(rng: Random) -> Chat:
    """A question that would need a tool, in a chat that has none."""
    kind = KINDS[rng.randrange(2)]
    asked, _ = _question(kind, rng)
    return Chat((turn("user", asked), turn("assistant", "I cannot look that up: this chat gives me no tool for it.")))


def weather_tool(name: str = "get_weather", argument: str = "city") -> Tool:
    """The usual weather tool, for probes and tests."""
    return Tool(KINDS[0], name, argument, KINDS[0].does[0])


def probes() -> list[Probe]:
    """Held-out calls and results."""
    usual, odd = weather_tool(), weather_tool("get_forecast", "town")
    calls = (
        (
            usual,
            "What's the weather like in Paris right now?",
            '{"name": "get_weather", "arguments": {"city": "Paris"}}',
        ),
        (usual, "Will it rain in Berlin today?", '{"name": "get_weather", "arguments": {"city": "Berlin"}}'),
        (usual, "Please check the weather in Tokyo for me.", '{"name": "get_weather", "arguments": {"city": "Tokyo"}}'),
        (odd, "How is the weather in Moruna today?", '{"name": "get_forecast", "arguments": {"town": "Moruna"}}'),
    )
    found = [
        Probe("tools", Chat((turn("user", asked),), (tool.schema,)), exact=f"<tool_call>\n{call}\n</tool_call>")
        for tool, asked, call in calls
    ]
    for city, degrees, sky in (("Paris", 18, "cloudy"), ("Velora", 31, "sunny")):
        result = f'{{"city": "{city}", "temperature_c": {degrees}, "sky": "{sky}"}}'
        chat = Chat(
            (turn("user", f"What is the weather in {city}?"), usual.call(city), turn("tool", result)), (usual.schema,)
        )
        found.append(Probe("tools", chat, expect=(city, str(degrees), sky)))
    return found
