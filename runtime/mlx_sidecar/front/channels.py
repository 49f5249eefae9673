"""The channels of a stream: the answer, its reasoning, and the arguments of each tool call."""

from __future__ import annotations

from typing import Final

import msgspec

TEXT: Final = "text"  # the channel that ``generate`` answers
REASONING: Final = "reasoning"

Channel = str | int
"""A name, or the index of a tool call, whose arguments are written there."""


class CallHead(msgspec.Struct, frozen=True):
    """A tool call before its arguments."""

    id: str
    name: str
