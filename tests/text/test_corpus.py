"""No shape of a chat spoils a real chat template that ``python -m benchmarks.corpus`` has fetched."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from benchmarks import corpus
from benchmarks.templates.chats import SHAPES, Chat, kinds
from benchmarks.templates.judge import SPECIAL, Renderer, faults, ours, transformers
from mlx_sidecar.text.message_shapes import MessageShapes
from mlx_sidecar.text.templates import ChatTemplate

CHATS = kinds()
TEMPLATES = corpus.templates() if corpus.is_fetched() else {}

pytestmark = pytest.mark.skipif(not TEMPLATES, reason="real templates are not fetched: python -m benchmarks.corpus")


class Renderers(NamedTuple):
    ours: Renderer
    theirs: Renderer
    shapes: MessageShapes


@pytest.fixture(scope="module", params=TEMPLATES or ["none"])
def renderers(request: pytest.FixtureRequest) -> Renderers:
    source = TEMPLATES[request.param]
    return Renderers(ours(source), transformers(source), ChatTemplate(source, SPECIAL).shapes({}))


def test_no_shape_of_a_chat_is_refused_lost_or_printed_as_python_does(renderers: Renderers) -> None:
    for kind, plain in CHATS.items():
        expected = renderers.theirs(plain)
        for shape, shaped in SHAPES.items():
            given = shaped(plain)
            wrong = [fault for fault in faults(plain, given, renderers.ours(given), expected) if fault != "own repr"]
            assert not wrong, (kind, shape, wrong)


def test_shaped_messages_are_written_as_transformers_writes_them(renderers: Renderers) -> None:
    for plain in CHATS.values():
        for shaped in SHAPES.values():
            given = shaped(plain)
            same = renderers.theirs(given._replace(messages=renderers.shapes.shaped(given.messages)))
            text = renderers.ours(given)
            assert (text.text, text.refused is None) == (same.text, same.refused is None)


def test_plain_chats_without_calls_are_written_as_transformers_writes_them(renderers: Renderers) -> None:
    for plain in CHATS.values():
        expected = renderers.theirs(plain)
        if expected.refused is None and not any("tool_calls" in message for message in plain.messages):
            assert renderers.ours(plain).text == expected.text


def test_a_results_calls_and_reasoning_are_written_the_same_in_our_shape_and_in_openais(renderers: Renderers) -> None:
    function = {"name": "look", "arguments": '{"city": "Bern"}'}
    asked = {"role": "user", "content": "How is the weather in Bern?"}
    told = {"role": "tool", "tool_call_id": "abcdefghi", "content": "Rain."}
    look = {"type": "function", "function": {"name": "look", "description": "", "parameters": {"type": "object"}}}
    flat, nested = (
        renderers.ours(
            Chat([asked, {"role": "assistant", "reasoning_content": "Hm.", "tool_calls": [call]}, told], [look])
        )
        for call in ({"id": "abcdefghi", **function}, {"id": "abcdefghi", "type": "function", "function": function})
    )
    assert flat == nested
