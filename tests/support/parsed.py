"""An answer as a parser sorts it, with each channel's text joined."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import count
from typing import Any, NamedTuple

from mlx_sidecar.front.channels import REASONING, TEXT, CallHead, Channel
from mlx_sidecar.front.output.chat_parser import ChatParser
from mlx_sidecar.front.output.formats.table import OutputFormats, tool_format
from mlx_sidecar.front.output.formats.tool_format import ReasoningFormat
from mlx_sidecar.front.output.parser import Outcome, Segment

THINK = ReasoningFormat("<think>", "</think>")


class Parsed(NamedTuple):
    """All that a parser told: the text of each channel, the heads of the calls, and the outcome."""

    channels: dict[Channel, str]
    heads: list[CallHead]
    outcome: Outcome

    @property
    def text(self) -> str:
        return self.channels.get(TEXT, "")

    @property
    def reasoning(self) -> str:
        return self.channels.get(REASONING, "")

    @property
    def calls(self) -> list[tuple[str, Any]]:
        """Name and arguments of the whole calls."""
        return [(self.heads[at].name, json.loads(self.channels[at])) for at in self.outcome.calls]


def formats(tools: str | None = "hermes", reasoning: ReasoningFormat | None = None) -> OutputFormats:
    return OutputFormats(None if tools is None else tool_format(tools), reasoning)


def parsed(
    of: OutputFormats,
    tools: Sequence[Mapping[str, Any]],
    pieces: Iterable[str],
    *,
    cut: bool = False,
    thinking: bool = False,
) -> Parsed:
    """The answer that comes in ``pieces`` of a token each, and the end. Checks what holds for all segments."""
    numbers = count()
    parser = ChatParser(of, tools, thinking=thinking, new_id=lambda: f"id{next(numbers)}")
    segments: list[Segment] = []
    for piece in pieces:
        segments += parser.push(piece, [0])
    segments += parser.finish(cut=cut)
    channels: dict[Channel, str] = {}
    heads: list[CallHead] = []
    for segment in segments:
        assert segment.text
        assert (segment.head is not None) == (isinstance(segment.channel, int) and segment.channel not in channels)
        if segment.head is not None:
            assert segment.channel == len(heads)
            heads.append(segment.head)
        channels[segment.channel] = channels.get(segment.channel, "") + segment.text
    return _checked(Parsed(channels, heads, parser.outcome))


def _checked(told: Parsed) -> Parsed:
    outcome = told.outcome
    unfinished = [each.index for each in outcome.unfinished if each.index is not None]
    assert sorted([*outcome.calls, *unfinished]) == list(range(len(told.heads)))
    assert len({head.id for head in told.heads}) == len(told.heads)
    assert all(isinstance(arguments, dict) for _, arguments in told.calls)
    return told


def splits(text: str) -> Iterable[tuple[str, str]]:
    """``text`` in two pieces, in every way."""
    return ((text[:at], text[at:]) for at in range(len(text) + 1))
