"""The messages of a chat that are left when its oldest turns are left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Messages = Sequence[Mapping[str, Any]]

_SYSTEM = ("system", "developer")


def without(messages: Messages, dropped: int) -> list[Mapping[str, Any]]:
    """``messages`` without the first ``dropped`` of those behind the system messages."""
    system = system_messages(messages)
    return [*messages[:system], *messages[system + dropped :]]


def system_messages(messages: Messages) -> int:
    """The number of system messages that a chat begins with."""
    return next((at for at, message in enumerate(messages) if message["role"] not in _SYSTEM), len(messages))
