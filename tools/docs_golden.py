"""Finds examples for the reference in recorded conversations: the golden sessions, and docs/examples.jsonl."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
GOLDEN = ROOT / "clients" / "conformance" / "golden"
RECORDED = ROOT / "docs" / "examples.jsonl"

_LONG_LIST = 6
_LONG_OBJECT = 20
_LONG_TEXT = 300


@dataclass(frozen=True)
class Exchange:
    """A frame of the host and the answer to it; either is missing for notifications."""

    source: str
    asked: Any = None
    answered: Any = None


@dataclass
class Examples:
    """The first exchange of each kind. Keys are names of methods, and kinds of errors."""

    answers: dict[str, Exchange] = field(default_factory=dict[str, Exchange])
    notifications: dict[str, Exchange] = field(default_factory=dict[str, Exchange])
    errors: dict[str, Exchange] = field(default_factory=dict[str, Exchange])


def examples() -> Examples:
    """Return what the recorded conversations show; a method's first whole answer goes before later ones."""
    found = Examples()
    for source, frames in _sessions():
        asked: dict[Any, Any] = {}
        last: Any = None
        for sender, frame in frames:
            for part in frame if isinstance(frame, list) else [frame]:
                if sender == "host":
                    last = part
                _note(found, source, sender, part, asked, last)
    return found


def _note(found: Examples, source: str, sender: str, part: Any, asked: dict[Any, Any], last: Any) -> None:
    if not isinstance(part, dict):
        return
    if "method" in part and "id" not in part:
        found.notifications.setdefault(part["method"], Exchange(source, part))
    elif sender == "host" and "id" in part:
        asked[part["id"]] = part
    elif "result" in part and part["id"] in asked:
        request = asked[part["id"]]
        found.answers.setdefault(request["method"], Exchange(source, request, part))
        if error := part["result"].get("error"):
            found.errors.setdefault(error["data"]["kind"], Exchange(source, request, part))
    elif "error" in part:
        request = asked.get(part["id"], last)
        found.errors.setdefault(part["error"]["data"]["kind"], Exchange(source, request, part))


def _sessions() -> Iterator[tuple[str, list[tuple[str, Any]]]]:
    """Each session's name and its frames with their senders."""
    for file in [*sorted(GOLDEN.glob("*.jsonl")), RECORDED]:
        name, frames = file.stem, list[tuple[str, Any]]()
        for line in map(json.loads, file.read_text(encoding="utf-8").splitlines()):
            if "session" in line and "about" in line:
                if frames:
                    yield name, frames
                name, frames = line["session"], []
            elif "from" in line:
                frames.append((line["from"], line["frame"]))
        yield name, frames


def shown(value: Any) -> str:
    """Return a frame as readable JSON, in which long lists, objects and texts are cut off at an ellipsis."""
    return json.dumps(shortened(value), ensure_ascii=False, indent=2)


def shortened(value: Any) -> Any:
    """Return a frame in which long lists, objects and texts are cut off at an ellipsis."""
    if isinstance(value, dict):
        parts = {key: shortened(part) for key, part in list(value.items())[:_LONG_OBJECT]}
        return parts | ({"…": f"{len(value) - _LONG_OBJECT} more"} if len(value) > _LONG_OBJECT else {})
    if isinstance(value, list):
        parts_of_list = [shortened(part) for part in value[:_LONG_LIST]]
        return parts_of_list + ([f"… {len(value) - _LONG_LIST} more"] if len(value) > _LONG_LIST else [])
    if isinstance(value, str) and len(value) > _LONG_TEXT:
        return value[:_LONG_TEXT] + "…"
    return value
