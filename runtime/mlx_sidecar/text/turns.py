"""Finds what a chat template writes behind an answer: the end of its turn, further messages, and the next opening.

The answer itself is not rendered, because a host has its tokens as they were computed and a template may write it in
another way. A mark stands for it: a word in place of its content, or the last argument or name in its calls.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import count
from typing import Any, NamedTuple

Messages = Sequence[Mapping[str, Any]]

ANCHOR = "zqanswer"  # is encoded before what follows, because some tokenizers begin a text with a space

_NUMBER = 731_948_265_037  # as an argument; numbers are written without quotes in every format of calls
_CLOSING_CHARACTERS = 400  # at most, behind the mark in a call
_COMMON_TOKENS = 8  # at most, that an answer ends and the template goes on with


class MarkLost(Exception):
    """The mark is not there once, or the answer ends, or the chat goes on, in another way than with the mark."""


class Marked(NamedTuple):
    """Messages in which ``mark`` stands for an answer. ``in_call``: for a part of its last call."""

    messages: list[Mapping[str, Any]]
    mark: str
    in_call: bool


def marked(messages: Messages, answered: int, text: str) -> Iterator[Marked]:
    """``messages`` with a mark in the answer, message number ``answered``, which is not in ``text``, the chat's own.

    An answer with calls is marked in the last one, and then in its content, without calls, in case that its calls are
    not written or end in another way than the template would end them.
    """
    answer = messages[answered]
    word = _unused(text, lambda at: f"zqanswer{at}zq")
    if calls := answer.get("tool_calls"):
        number = _unused(text, lambda at: str(_NUMBER + at))
        call, mark = _with_mark(calls[-1], number, word)
        yield _replaced(messages, answered, {"tool_calls": [*calls[:-1], call]}, mark, in_call=True)
    yield _replaced(messages, answered, {"content": word, "tool_calls": None}, word, in_call=False)


def end_of_answer(text: str, chat: Marked, said: str, unmarked: str) -> int:
    """The place in ``text``, the rendering of ``chat``, where the answer has ended, whose own text is ``said``.

    ``unmarked`` is the rendering of the chat itself. Raises MarkLost if the place cannot be told.
    """
    if text.count(chat.mark) != 1:
        raise MarkLost
    at = text.index(chat.mark) + len(chat.mark)
    if chat.in_call:
        at += _end_of_call(text[at : at + _CLOSING_CHARACTERS], said)
    if not unmarked.endswith(text[at:]):
        raise MarkLost
    return at


def without_common(answer: Sequence[int], tail: list[int]) -> list[int]:
    """``tail`` without the tokens with which it begins and ``answer`` ends, as a marker that the model wrote itself."""
    for size in range(min(len(answer), len(tail), _COMMON_TOKENS), 0, -1):
        if list(answer[-size:]) == tail[:size]:
            return tail[size:]
    return tail


def _end_of_call(text: str, said: str) -> int:
    """The place in ``text``, which follows a mark in the last of the calls that ``said`` ends with, where they end.

    The longest beginning of ``text`` that ``said`` ends with is the calls' own end; white space is not compared.
    """
    plain = "".join(said[-2 * _CLOSING_CHARACTERS :].split())
    ends = [at for at in range(1, len(text) + 1) if not text[at - 1].isspace()]
    for end in reversed(ends):
        if plain.endswith("".join(text[:end].split())):
            space = said[len(said.rstrip()) :]
            return end + len(space) if text.startswith(space, end) else end
    raise MarkLost


def _unused(text: str, mark: Callable[[int], str]) -> str:
    return next(each for at in count() if (each := mark(at)) not in text)


def _replaced(messages: Messages, at: int, members: Mapping[str, Any], mark: str, *, in_call: bool) -> Marked:
    return Marked([*messages[:at], {**messages[at], **members}, *messages[at + 1 :]], mark, in_call)


def _with_mark(call: Mapping[str, Any], number: str, word: str) -> tuple[Mapping[str, Any], str]:
    """``call`` with ``number`` as its only argument, or with the name ``word`` if it has none; and which it is."""
    if isinstance(function := call.get("function"), Mapping):
        changed, mark = _with_mark(function, number, word)
        return {**call, "function": changed}, mark
    if (key := _last_key(call.get("arguments"))) is None:
        return {**call, "name": word}, word
    return {**call, "arguments": {key: int(number)}}, number


def _last_key(arguments: Any) -> str | None:
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments)
        except ValueError:
            return None
    return next(reversed(arguments)) if isinstance(arguments, dict) and arguments else None
