"""Conversations shaped like those of a coding agent: a long system prompt, and many tools with long schemas.

The sizes are those of Claude Code 2.1: 6 kB of system prompt in three blocks, the first of which tells the version, and
24 tools in 64 kB of JSON. Everything is made of a few words by a seeded generator.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from typing import Any

SYSTEM_BYTES, TOOLS, TOOLS_BYTES = 6_000, 24, 64_000

_TEXT = """
the file that is read or written must lie below the working directory and its path be absolute use this tool when a
command of the shell would print more than you need never guess a name but search for it first results come sorted by
time with the newest one first if nothing is found say so and stop
"""
_WORDS = _TEXT.split()
_KINDS: tuple[dict[str, Any], ...] = (
    {"type": "string"},
    {"type": "integer", "minimum": 0},
    {"type": "boolean", "default": False},
    {"type": "array", "items": {"type": "string"}},
    {"type": "string", "enum": ["content", "files", "count"]},
)


@dataclass(frozen=True)
class Sizes:
    """The system prompt's bytes, the number of tools, and the bytes of these as JSON."""

    system_bytes: int = SYSTEM_BYTES
    tools: int = TOOLS
    tools_bytes: int = TOOLS_BYTES


@dataclass(frozen=True)
class Agent:
    """One conversation: two texts of a system prompt, tools as Anthropic has them, a question and a tool's result."""

    system: tuple[str, str]
    tools: list[dict[str, Any]]
    question: str
    result: str


def agent(seed: int, sizes: Sizes) -> Agent:
    """A conversation, of which nothing but its words is shared with those of other seeds."""
    source = random.Random(seed)
    half = sizes.system_bytes // 2
    tools = [_tool(source, number, sizes.tools_bytes // sizes.tools) for number in range(sizes.tools)]
    system = (f"Session {seed}. {_prose(source, half)}", _prose(source, half))
    return Agent(system, tools, _prose(source, 200), _prose(source, 600))


def _prose(source: random.Random, size: int) -> str:
    words: list[str] = []
    length = 0
    while length < size:
        words.append(source.choice(_WORDS))
        length += len(words[-1]) + 1
    return " ".join(words)[:size]


def _tool(source: random.Random, number: int, size: int) -> dict[str, Any]:
    """A tool of ``size`` bytes as JSON: half of them are its description, the rest its schema."""
    properties: dict[str, Any] = {}
    tool = {
        "name": f"tool_{number}",
        "description": _prose(source, size // 2),
        "input_schema": {"type": "object", "properties": properties, "required": ["p0"], "additionalProperties": False},
    }
    while (left := size - len(json.dumps(tool))) > 80:
        kind = source.choice(_KINDS) if properties else _KINDS[0]
        properties[f"p{len(properties)}"] = {**kind, "description": _prose(source, min(120, left - 60))}
    return tool
