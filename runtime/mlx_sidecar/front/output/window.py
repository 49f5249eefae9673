"""A window gives the text of new tokens where only the tokenizer can decode: it is decoded with and without them.

Nothing is decoded here. Each method is a generator that yields runs of tokens, is sent the text of each, and returns
a text; its caller has the runs decoded.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from itertools import islice
from typing import NamedTuple

from ...link.token_table import TokenTable, fallback_byte

# Yields runs of tokens, takes the text of each, returns text.
Decoding = Generator[list[list[int]], list[str], str]

# Tokens of context that a decoder may look back on, and tokens that may wait before the window is looked at less often:
# both bound the work for a token, so that the whole is linear in the number of tokens.
_LIMIT_TOKENS = 64
# Tokens at the end of a prompt that decide how those behind them are read.
_CONTEXT_TOKENS = 16
# The most tokens that one character comes in.
_CHARACTER_TOKENS = 4


class Mark(NamedTuple):
    """A state of a window to which it can be taken back."""

    tokens: int
    start: int
    read: int
    due: int
    given: int
    in_run: bool


class Window:
    """The tokens so far, and how much of their text was given out."""

    def __init__(self, table: TokenTable, hidden: frozenset[int], behind: Sequence[int] = ()) -> None:
        """``hidden``: tokens that give no text. ``behind``: the tokens that the first one continues."""
        self._table = table
        self._hidden = hidden
        self._context: list[int] | None = _text_tokens(behind, table)  # None once it was read
        self._tokens: list[int] = []
        self._start = 0  # the window begins here
        self._read = 0  # the text of this many tokens has been given out
        self._due = 0  # look again when there are this many tokens
        self._given: list[str] = []
        self._in_run = False  # of byte tokens, which may still turn out not to be UTF-8

    def mark(self) -> Mark:
        return Mark(len(self._tokens), self._start, self._read, self._due, len(self._given), self._in_run)

    def rewind(self, mark: Mark) -> None:
        """As if nothing had been pushed since ``mark``."""
        del self._tokens[mark.tokens :]
        del self._given[mark.given :]
        self._start, self._read, self._due, self._in_run = mark.start, mark.read, mark.due, mark.in_run

    def begin(self) -> Decoding:
        """Read the tokens that are continued. To be driven to its end once, before anything else; it gives no text."""
        context = self._context or []
        self._tokens = list(context)
        # The text that was given out ends with a whole character.
        ends = range(len(context), max(0, len(context) - _CHARACTER_TOKENS), -1)
        texts = yield [context[:end] for end in ends]
        self._context = None
        whole = ((end, text) for end, text in zip(ends, texts, strict=True) if not text.endswith("\ufffd"))
        self._read, given = next(whole, (len(context), texts[0] if texts else ""))
        self._given = [given]
        return ""

    def push(self, tokens: Sequence[int]) -> Decoding:
        """Take more tokens: the text that is now certain, often empty."""
        for token in tokens:
            self._tokens.append(token)
            if token not in self._hidden and (string := self._table.token(token)) is not None:
                self._in_run = fallback_byte(string) is not None
        if len(self._tokens) < self._due:
            return ""
        before, text = yield self._last_tokens()
        if self._in_run or text.endswith("\ufffd") or not text.startswith(before):
            waiting = len(self._tokens) - self._read
            self._due = len(self._tokens) + (waiting if waiting > _LIMIT_TOKENS else 1)
            return ""
        return self._give(text[len(before) :])

    def pending(self) -> Decoding:
        """The text that ``finish`` would return now, as far as the window shows."""
        before, text = yield self._last_tokens()
        return text[len(before) :] if text.startswith(before) else ""

    def finish(self) -> Decoding:
        """The text of all tokens beyond the text given out.

        If the decoder has by then taken back some of that, only the rest of the window.
        """
        (whole,) = yield [self._tokens]
        given = "".join(self._given)
        if whole.startswith(given):
            return whole[len(given) :]
        before, window = yield self._last_tokens()
        return window[len(before) :]

    def _last_tokens(self) -> list[list[int]]:
        return [self._tokens[self._start : self._read], self._tokens[self._start :]]

    def _give(self, text: str) -> str:
        # The window keeps something visible at its start: decoders treat the first word of a text in their own way.
        if text.strip() or self._read - self._start >= _LIMIT_TOKENS:
            self._start = self._read
        self._read = len(self._tokens)
        self._given.append(text)
        return text


def _text_tokens(tokens: Sequence[int], table: TokenTable) -> list[int]:
    """The last few of ``tokens`` that have a text."""
    last = (token for token in reversed(tokens) if token not in table.special)
    return list(islice(last, _CONTEXT_TOKENS))[::-1]
