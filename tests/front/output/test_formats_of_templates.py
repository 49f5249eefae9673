"""The table's formats are found from real chat templates, and read the calls that these write."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from benchmarks import corpus
from benchmarks.templates.chats import Chat
from benchmarks.templates.judge import ours
from mlx_sidecar.front.output.formats.table import SIGNS, TOOL_FORMATS, OutputFormats, formats_of
from tests.support.parsed import parsed
from tests.support.tool_texts import Call

TEMPLATES = corpus.templates() if corpus.is_fetched() else {}

# Templates that write calls which are in no format of the table.
UNSUPPORTED = {
    "GigaChat3-10B-A1.8B",
    "GigaChat3.1-10B-A1.8B",
    "Kimi-K3",
    "MiniMax-M3",
    "meetkai-functionary-medium-v3.2",
    "muse-glimmer",
    "upstage-Solar-Open-100B",
}
PARAMETERS = {"city": {"type": "string"}, "n": {"type": "integer"}, "o": {"type": "object"}, "b": {"type": "boolean"}}
TOOLS: list[dict[str, Any]] = [
    {
        "type": "function",
        "function": {
            "name": name,
            "description": "d",
            "parameters": {"type": "object", "properties": PARAMETERS, "required": ["city"]},
        },
    }
    for name in ("get_w", "other")
]
CALLS: list[Call] = [
    ("get_w", {"city": 'Pa"ris', "n": 5, "o": {"a": [1, True, None]}, "b": True}),
    ("other", {"city": "x"}),
]


def found(template: str) -> OutputFormats:
    return formats_of(lambda sign: sign in template)


def answer(template: str, calls: list[Call]) -> str | None:
    """The answer with ``calls`` as ``template`` writes it; None if it refuses such a chat, or leaves some out."""
    written = [
        {"id": f"abcdefgh{number}", "type": "function", "function": {"name": name, "arguments": given}}
        for number, (name, given) in enumerate(calls)
    ]
    messages: list[dict[str, Any]] = [
        {"role": "user", "content": "QUESTION"},
        {"role": "assistant", "content": "", "tool_calls": written},
        {"role": "tool", "content": "RESULT", "tool_call_id": "abcdefgh0", "name": calls[0][0]},
    ]
    told = ours(template)(Chat(messages, TOOLS, add_generation_prompt=False))
    behind = told.text.rpartition("QUESTION")[2].partition("RESULT")[0].rpartition("<|end_header_id|>\n\n{")
    text = "{" + behind[2] if behind[1] else behind[2]
    return text if all(called in text for called, _ in calls) else None


def test_each_format_has_signs() -> None:
    assert all(signs for form in TOOL_FORMATS for signs in form.signs)
    assert set(SIGNS) >= {sign for form in TOOL_FORMATS for signs in form.signs for sign in signs}


def test_the_page_of_tools_has_every_format() -> None:
    page = (Path(__file__).parents[3] / "docs" / "tools.md").read_text(encoding="utf-8")
    formats = page.partition("\n## Formats\n")[2].partition("\n## ")[0]
    first_columns = [line.split(" | ")[0] for line in formats.splitlines() if line.startswith("| `")][1:]
    assert sorted(re.findall("`(.+?)`", " ".join(first_columns))) == sorted(form.name for form in TOOL_FORMATS)


def test_a_template_without_signs_has_no_formats() -> None:
    assert found("{{ messages[0].content }}") == OutputFormats()


def test_smollm3_is_told_by_its_list_of_tools() -> None:
    tools = found("{%- if xml_tools -%}{{ xml_tools }}{%- endif -%}").tools
    assert tools is not None
    assert tools.name == "hermes"


def test_calls_of_minimax_m3_are_in_no_format() -> None:
    assert found("]<]minimax[>[<tool_call>").tools is None


@pytest.mark.skipif(not TEMPLATES, reason="real templates are not fetched: python -m benchmarks.corpus")
@pytest.mark.parametrize("name", TEMPLATES)
def test_calls_of_a_real_template_are_read_back(name: str) -> None:
    of = found(TEMPLATES[name])
    # Some templates take one call at a time.
    calls = next((some for some in (CALLS, CALLS[:1]) if answer(TEMPLATES[name], some) is not None), None)
    if calls is None:
        pytest.skip("it writes no calls, or refuses such a chat")
    if name in UNSUPPORTED:
        assert of.tools is None
        return
    told = parsed(of, TOOLS, answer(TEMPLATES[name], calls) or "")
    assert told.calls == calls
    assert told.outcome.error is None
