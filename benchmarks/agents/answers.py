"""Reads how an answer of the gateway ended, and how much of its prompt was cached, in any of its interfaces."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

QUIET = "quiet"  # a stream that stopped without an ending, which the gateway promises never to send


@dataclass(frozen=True)
class Told:
    """An answer's ending in its interface's own word, and its prompt's tokens, of which ``cached`` were cached."""

    ending: str = QUIET
    prompt: int = 0
    cached: int = 0


def told(body: bytes) -> Told:
    """The ending and the counts in ``body``, which is one JSON object or a stream of events."""
    ending, usage = QUIET, dict[str, Any]()
    for value in _objects(body):
        within = value.get("response") or value.get("message") or value
        ending = _ending(value, within) or ending
        usage |= {name: count for name, count in (within.get("usage") or {}).items() if count is not None}
    return Told(ending, *_prompt(usage))


def _objects(body: bytes) -> Iterator[dict[str, Any]]:
    events = [line.removeprefix(b"data: ") for line in body.splitlines() if line.startswith(b"data: {")]
    for text in events or [body]:
        if text.startswith(b"{"):
            yield json.loads(text)


def _ending(value: dict[str, Any], within: dict[str, Any]) -> str | None:
    error = within.get("error")
    if isinstance(error, dict):
        words = ["error", error.get("kind") or error.get("code") or error.get("type"), error.get("param")]
        return " ".join(filter(None, words))
    if within.get("object") == "response":
        status: str = within["status"]
        return None if status in ("in_progress", "queued") else status
    choices, delta = value.get("choices") or [{}], value.get("delta")
    return choices[0].get("finish_reason") or (delta if isinstance(delta, dict) else value).get("stop_reason")


def _prompt(usage: dict[str, Any]) -> tuple[int, int]:
    """Prompt tokens, and those of them that were cached. Only Anthropic's interface counts them apart."""
    if "cache_read_input_tokens" in usage:
        cached = usage["cache_read_input_tokens"]
        return usage["input_tokens"] + cached + usage.get("cache_creation_input_tokens", 0), cached
    details = usage.get("prompt_tokens_details") or usage.get("input_tokens_details") or {}
    return usage.get("prompt_tokens", usage.get("input_tokens", 0)), details.get("cached_tokens", 0)
