"""Finds for each part of a rendered chat the field of the host's request that it comes from.

The chat is rendered once more with marks around every text. If that rendering without its marks equals the chat, the
marks give exact places. A template that looks at texts may render something else; then the texts are searched in order.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from mlx_sidecar_protocol.errors import RpcError

Path = tuple[str | int, ...]
Render = Callable[[Any, Any, Any], str]

# Fields without marks, because templates compare them with words of their own. "type" gets marks in the first try,
# because in the schema of a tool it is text.
_LEFT_ALONE = (("role",), ("role", "type"))
# Private code points: begin, number, numbered, text, end.
_BEGIN, _NUMBERED, _END = "\ue0a0", "\ue0a1", "\ue0a2"
_ESCAPED = {mark: json.dumps(mark)[1:-1] for mark in (_BEGIN, _NUMBERED, _END)}  # as a template's tojson may write them
_SEARCHED_CHARACTERS = 1 << 28  # a bound, because each text that a template left out is searched to the chat's end
_MARK = re.compile(
    f"(?:{_BEGIN}|{re.escape(_ESCAPED[_BEGIN])})([0-9]{{1,9}})(?:{_NUMBERED}|{re.escape(_ESCAPED[_NUMBERED])})"
    f"|(?:{_END}|{re.escape(_ESCAPED[_END])})"
)


class Region(NamedTuple):
    """Characters ``start`` to ``stop`` (exclusive) of the chat come from the field at ``path``."""

    start: int
    stop: int
    path: Path


def regions(
    rendered: str,
    render: Render,
    messages: Sequence[Mapping[str, Any]],
    tools: Sequence[Mapping[str, Any]] | None,
    template_args: Mapping[str, Any] | None,
) -> list[Region]:
    """Regions of the chat ``rendered``, in order, as far as found. ``render`` takes messages, tools, template_args."""
    given = {"messages": messages, "tools": tools, "template_args": template_args}
    texts: list[tuple[Path, str]] = []
    for alone in _LEFT_ALONE:
        texts.clear()
        marked = {name: _marked(value, (name,), alone, texts) for name, value in given.items()}
        if _MARK.search(rendered):
            break
        try:
            with_marks = render(marked["messages"], marked["tools"], marked["template_args"])
        except RpcError:  # the template refuses a text with marks in it
            continue
        plain, found = _unmarked(with_marks, texts)
        if plain == rendered:
            return found
    return list(_looked_for(rendered, texts))


def _marked(value: Any, path: Path, alone: tuple[str, ...], texts: list[tuple[Path, str]]) -> Any:
    """``value`` with marks around its texts, except in the fields ``alone``; marked texts are appended to ``texts``.

    White space around a text stays outside of its marks.
    """
    if isinstance(value, Mapping):
        return {key: _marked(each, (*path, str(key)), alone, texts) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_marked(each, (*path, number), alone, texts) for number, each in enumerate(value)]
    if not isinstance(value, str) or not value.strip() or path[-1] in alone:
        return value
    core = value.strip()
    texts.append((path, core))
    before, _, after = value.partition(core)
    return f"{before}{_BEGIN}{len(texts) - 1}{_NUMBERED}{core}{_END}{after}"


def _unmarked(with_marks: str, texts: list[tuple[Path, str]]) -> tuple[str, list[Region]]:
    parts: list[str] = []
    found: list[Region] = []
    open_: list[tuple[int, int]] = []
    length = at = 0
    for mark in _MARK.finditer(with_marks):
        parts.append(with_marks[at : mark.start()])
        length += len(parts[-1])
        at = mark.end()
        if mark[1] is not None:
            open_.append((int(mark[1]), length))
        elif open_:
            number, start = open_.pop()
            if number < len(texts):
                found.append(Region(start, length, texts[number][0]))
    parts.append(with_marks[at:])
    return "".join(parts), sorted(found)


def _looked_for(rendered: str, texts: list[tuple[Path, str]]) -> Iterator[Region]:
    """Regions by search: tools first, as in templates, then each text behind the last, plain or as JSON writes it."""
    at, left = 0, _SEARCHED_CHARACTERS
    for path, text in sorted(texts, key=lambda each: each[0][0] == "messages"):
        for form in dict.fromkeys((text, json.dumps(text, ensure_ascii=False)[1:-1], json.dumps(text)[1:-1])):
            start = rendered.find(form, at)
            left -= (len(rendered) if start < 0 else start) - at
            if left < 0:
                return
            if start >= 0:
                at = start + len(form)
                yield Region(start, at, path)
                break
