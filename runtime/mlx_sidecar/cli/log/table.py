"""Requests as a table."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..terminal_text import say
from .entries import Entry

ID_LENGTH = 12  # of 32 characters: enough to name a request for --replay
_LONGEST_NAME = 32


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _count(value: int | None) -> str:
    return "" if value is None else str(value)


_COLUMNS: Sequence[tuple[str, Callable[[Entry], str]]] = (
    ("TIME", lambda entry: entry.ts.astimezone().strftime("%m-%d %H:%M:%S")),
    ("ID", lambda entry: entry.id[:ID_LENGTH]),
    ("PATH", lambda entry: entry.path[:_LONGEST_NAME]),
    ("MODEL", lambda entry: entry.model[:_LONGEST_NAME]),
    ("KEY", lambda entry: entry.key),
    ("STATUS", lambda entry: str(entry.status) if entry.status else ""),
    ("OUTCOME", lambda entry: entry.outcome),
    ("QUEUE", lambda entry: _seconds(entry.queue_s)),
    ("FIRST", lambda entry: _seconds(entry.first_token_s)),
    ("TOTAL", lambda entry: _seconds(entry.duration_s)),
    ("IN", lambda entry: _count(entry.prompt_tokens)),
    ("CACHED", lambda entry: _count(entry.cached_tokens)),
    ("OUT", lambda entry: _count(entry.completion_tokens)),
)


def show(entries: Sequence[Entry]) -> None:
    """Write the table, seconds and tokens; under a request that failed its reason. Empty columns are left out."""
    cells = [(heading, [value(entry) for entry in entries]) for heading, value in _COLUMNS]
    columns = [[heading, *column] for heading, column in cells if any(column) or not entries]
    widths = [max(map(len, column)) for column in columns]
    messages = ["", *(entry.message for entry in entries)]
    for row, message in zip(zip(*columns, strict=True), messages, strict=True):
        say("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
        if message:
            say(f"  {' '.join(message.split())}")
