"""How a model writes its calls and its reasoning, as grammars are told: the table's texts, with tokens for markers."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from ....link import forms as link
from .table import OutputFormats
from .tool_format import Bare, JsonArguments, JsonObject, Parameters, Pythonic, ToolFormat

IdOf = Callable[[str], int | None]
"""The id of the token with a string; None if the vocabulary has none."""

_HARMONY_ROLE = "<|start|>assistant"  # the prompt ends with it
_HARMONY = ("<|start|>", "<|channel|>", "<|message|>", "<|end|>")
_MARKS = ("<|start|>", "<|channel|>", "<|call|>", "<|return|>")  # that end a message as well


def call_shape(format_: ToolFormat, id_of: IdOf) -> link.CallShape:
    """How calls of ``format_`` are written by a model with these tokens."""

    def marker(text: str) -> link.Marker:
        return marker_of(text, format_.tokens, id_of)

    first = format_.begin or format_.open
    token = next((token for token in format_.tokens if first.startswith(token)), None)
    return link.CallShape(
        body=_body(format_, marker),
        begin=marker(format_.begin),
        open=marker(format_.open.removeprefix(_HARMONY_ROLE)),
        before_id=marker(format_.before_id),
        after_name=marker(format_.after_name),
        close=[] if format_.close in format_.ends else marker(format_.close),
        between=marker(format_.between),
        end=marker(format_.end),
        trigger=marker(token or first.strip()) if format_.announced else [],
        lead=[] if format_.announced else [(first or "{")[0], *([format_.prefix] if format_.prefix else [])],
    )


def before_form(formats: OutputFormats, reasoning: link.Reasoning, id_of: IdOf, textless: IdOf) -> link.Before:
    """The text that may precede a form or a call; ``reasoning``: whether reasoning between markers may.

    ``textless`` has the ids of those tokens alone that match no text: others are matched as text, because some models
    write such a marker in several tokens.
    """
    if formats.tools is not None and formats.tools.layout == "harmony":
        begins = [f"<|channel|>{channel}<|message|>" for channel in ("analysis", "commentary", "final")]
        markers = [marker_of(text, _HARMONY, id_of) for text in (*begins, "<|end|>", _HARMONY_ROLE)]
        return link.Harmony(markers[0], markers[1], markers[2], end=markers[3], next=markers[4], marks=[*_MARKS])
    if formats.reasoning is None or reasoning == "none":
        return link.Thought()
    begin, end = formats.reasoning.begin, formats.reasoning.end
    tokens = (*formats.reasoning.tokens, begin.strip(), end.strip())
    return link.Thought(reasoning, marker_of(begin, tokens, textless), marker_of(end, tokens, textless))


def marker_of(text: str, tokens: Iterable[str], id_of: IdOf) -> link.Marker:
    """``text`` with those of ``tokens`` that the vocabulary has as its tokens."""
    ids = {token: id_ for token in tokens if token in text and (id_ := id_of(token)) is not None}
    if not ids:
        return [text] if text else []
    longest_first = sorted(ids, key=len, reverse=True)
    pieces = re.split(f"({'|'.join(map(re.escape, longest_first))})", text)
    return [link.Token(ids[piece], piece) if piece in ids else piece for piece in pieces if piece]


def _body(format_: ToolFormat, marker: Callable[[str], link.Marker]) -> link.Body:
    match format_.body:
        case JsonObject() as body:
            return link.ObjectCall(body.name, body.arguments, body.id, body.id_first)
        case JsonArguments() as body:
            return link.ObjectArguments(body.indexed)
        case Parameters() as body:
            markers = (body.open, body.after_name, body.close, body.between)
            return link.MarkedArguments(*map(marker, markers))
        case Pythonic():
            return link.PythonArguments()
        case Bare() as body:
            return link.BareArguments(marker(body.quote))
