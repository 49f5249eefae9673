"""The engine counts the same tokens of reasoning as the front, which tells the host."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlx_sidecar.engine.grammar.reasoning import ReasoningFollower
from mlx_sidecar.engine.grammar.spelling import EndMarker, Spelling
from mlx_sidecar.front.output.chat_parser import ChatParser
from mlx_sidecar.front.output.formats.table import REASONING_FORMATS, OutputFormats, tool_format
from mlx_sidecar.front.output.formats.tool_format import ReasoningFormat
from mlx_sidecar.link.reasoning import ReasoningBudget
from tests.engine.grammar.vocabularies import END, vocabulary

CHANNELS = OutputFormats(tool_format("harmony"))
ANALYSIS, CHANNEL_END, NEXT = "<|channel|>analysis<|message|>", "<|end|>", "<|start|>assistant"
NEVER = 1 << 30


def counts(
    text: str, cuts: list[int], budget: ReasoningBudget, formats: OutputFormats, *, thinking: bool
) -> tuple[list[int], list[int | None]]:
    """The tokens that the engine, and the front, has counted behind each token of ``text``, which has ``cuts``."""
    places = sorted({0, len(text), *(cut % (len(text) + 1) for cut in cuts)})
    pieces = [text[start:stop] for start, stop in pairwise(places)]
    follower = ReasoningFollower(budget, Spelling(vocabulary(piece.encode() for piece in pieces)), EndMarker(0))
    parser = ChatParser(formats, None, thinking=thinking)
    engine: list[int] = []
    front: list[int | None] = []
    for token, piece in enumerate(pieces, END + 1):
        assert follower.consume(token)
        parser.push(piece, [token])
        engine.append(follower.tokens)
        front.append(parser.outcome.reasoning_tokens)
    return engine, front


WORDS = st.lists(st.sampled_from(["a", " ", "\n", "<", "</", "think", ">", "é", "<|", "|>", "end"]), max_size=12).map(
    "".join
)
CUTS = st.lists(st.integers(0, 400), max_size=40)


@pytest.mark.parametrize("markers", REASONING_FORMATS, ids=lambda markers: markers.end)
@given(st.sampled_from(["", " ", "\n\n", "a"]), WORDS, st.sampled_from(["", "end"]), WORDS, CUTS, st.booleans())
def test_the_tokens_between_markers_are_the_same(
    markers: ReasoningFormat, before: str, words: str, end: str, after: str, cuts: list[int], thinking: bool
) -> None:
    text = (words if thinking else before + markers.begin + words) + (markers.end + after if end else "")
    budget = ReasoningBudget(markers.begin.encode(), markers.end.encode(), thinking, NEVER)
    engine, front = counts(text, cuts, budget, OutputFormats(None, markers), thinking=thinking)
    assert engine == front


@given(st.lists(WORDS, max_size=3), WORDS, CUTS)
def test_the_tokens_of_channels_whose_markers_are_tokens_are_the_same(
    thoughts: list[str], answer: str, cuts: list[int]
) -> None:
    analysed = "".join(f"{ANALYSIS}{thought}{CHANNEL_END}{NEXT}" for thought in thoughts)
    text = f"{analysed}<|channel|>final<|message|>{answer}"
    cuts = [*cuts, *(place for marker in re.finditer(r"<\|[a-z]+\|>", text) for place in marker.span())]
    budget = ReasoningBudget(ANALYSIS.encode(), CHANNEL_END.encode(), thinking=False, tokens=NEVER, anywhere=True)
    engine, front = counts(text, cuts, budget, CHANNELS, thinking=False)
    assert (engine or [0])[-1] == (front or [0])[-1]


def test_the_tokens_of_the_end_marker_are_not_counted() -> None:
    budget = ReasoningBudget(b"<think>", b"</think>", thinking=True, tokens=NEVER)
    formats = OutputFormats(None, REASONING_FORMATS[-1])
    engine, front = counts("ab</think>c", list(range(11)), budget, formats, thinking=True)
    assert engine == front == [1, *[2] * 10]
