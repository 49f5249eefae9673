"""This module decides what is looked for in the output of one request: reasoning, calls, or nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlx_sidecar_protocol.errors import InvalidParams
from mlx_sidecar_protocol.generate import GenerateParams
from mlx_sidecar_protocol.generate_result import ResultWarning

from ..output.chat_parser import ChatParser, shown_tokens
from ..output.formats.table import TOOL_FORMATS, OutputFormats, tool_format
from ..output.formats.tool_format import ToolFormat
from .forms import formats_for, reasoning_behind
from .model_text import ModelText

_TAIL_TOKENS = 32  # at the end of a prompt, in which its template may open the reasoning
_NOT_PARSED = ResultWarning(
    kind="tool_calls_not_parsed",
    message="the model's chat template does not tell how it writes calls, so they stay in the text; name a tool_format",
)


@dataclass(frozen=True)
class Parsing:
    """The things to look for in one answer. ``tools`` are those of the request, None where no calls are looked for.

    ``thinking``: the prompt has opened the reasoning.
    """

    formats: OutputFormats
    tools: Sequence[Mapping[str, Any]] | None
    thinking: bool

    @property
    def shown(self) -> frozenset[str]:
        """Texts of special tokens that the parser has to see."""
        return shown_tokens(self.formats, calls=self.tools is not None)

    def parser(self) -> ChatParser:
        """A parser for one stream."""
        return ChatParser(self.formats, self.tools, thinking=self.thinking)

    def ends(self, text: ModelText) -> set[int]:
        """Tokens that end a turn with calls, beside those that the model's configuration names."""
        if self.tools is None or self.formats.tools is None:
            return set()
        found = (text.table.find(end) for end in self.formats.tools.ends)
        return {token for token in found if token is not None}


def reasons(formats: OutputFormats) -> bool:
    """Whether reasoning is looked for in the answers of a model with ``formats``."""
    return formats.reasoning is not None or _has_channels(formats.tools)


def check_format(name: str | None) -> None:
    """Refuse a ``tool_format`` of another name than the table has."""
    if name is not None and tool_format(name) is None:
        known = ", ".join(sorted(each.name for each in TOOL_FORMATS))
        raise InvalidParams.field("tool_format", f"there is no format {name!r}; known are {known}", "unknown_format")


async def parsing_of(
    params: GenerateParams, text: ModelText, prompt: Sequence[int]
) -> tuple[Parsing | None, list[ResultWarning]]:
    """The things to look for in the answer to ``prompt``, None for nothing, and warnings."""
    if not params.parses:
        return None, []
    tools = None if params.tool_choice == "none" else params.tools or None
    known, reasoning = formats_for(params, text)
    warnings = [_NOT_PARSED] if tools is not None and known is None else []
    # Channels are sorted without tools, too.
    formats = OutputFormats(known if tools or _has_channels(known) else None, reasoning)
    if formats == OutputFormats():
        return None, warnings
    return Parsing(formats, tools if known else None, await _is_thinking(formats, text, prompt)), warnings


def _has_channels(known: ToolFormat | None) -> bool:
    return known is not None and known.layout == "harmony"


async def _is_thinking(formats: OutputFormats, text: ModelText, prompt: Sequence[int]) -> bool:
    if formats.reasoning is None or _has_channels(formats.tools):  # a channel names itself in the answer
        return False
    tail = await text.decode(prompt[-_TAIL_TOKENS:])
    return reasoning_behind(tail, formats.reasoning, is_chat=True) == "open"
