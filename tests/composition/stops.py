"""Finds stops for a request, at which it ends somewhere near the middle of its answer."""

from __future__ import annotations

from tests.support.host import Frame

from .features import HEAD, LAZY_HEAD, UNNEEDED
from .models import SPELLED


def said(answer: Frame) -> str:
    """Return what the answer says: its text, or the arguments of its call as far as they were written."""
    for call in answer.get("tool_calls", ()):
        return str(call["arguments"])
    for call in answer.get("incomplete_tool_calls", ()):
        return str(call["text"]).removeprefix(HEAD).removeprefix(LAZY_HEAD)
    return str(answer["text"])


def stop_string(answer: Frame) -> str:
    """Return a string of two characters (one, in texts of few) that comes first near the middle of the text."""
    text = said(answer)
    before = answer.get("reasoning", "") + SPELLED[1]
    if "tool_calls" in answer:
        before += answer["text"] + HEAD + LAZY_HEAD
    half = len(text) // 2
    for length in (2, 1):
        pieces = {text[at : at + length]: at for at in reversed(range(len(text) - length + 1))}
        if ascii_only := [piece for piece in pieces if piece.isascii() and piece not in before]:
            return min(ascii_only, key=lambda piece: abs(pieces[piece] - half))
    raise AssertionError(f"nothing to stop at: {text!r}")


def stop_token(answer: Frame, *, has_form: bool) -> int:
    """Return a token that comes for the first time near the middle of the answer, or that no form needs."""
    tokens: list[int] = answer["tokens"]
    half = len(tokens) // 2
    first = {token: at for at, token in reversed(list(enumerate(tokens)))}
    return UNNEEDED if has_form else min(first, key=lambda token: abs(first[token] - half))
