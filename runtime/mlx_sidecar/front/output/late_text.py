"""Text of tokens that only the tokenizer itself can decode: asked of the text process, taken in when it comes.

A short window of tokens is decoded with and without the new ones; the difference is the new text. What the window
holds changes when the answer is there, so a stream that has lost its engine meanwhile goes on from what was taken in.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence

from mlx_sidecar_protocol.errors import RpcError

from ...link.token_table import TokenTable, fallback_byte

# Decodes each run of tokens by itself.
Decode = Callable[[Sequence[Sequence[int]]], Awaitable[list[str]]]
# Tokens of context that a decoder may look back on, and tokens that may wait before the window is looked at less often:
# both bound the work for a token, so that the whole is linear in the number of tokens.
_LIMIT_TOKENS = 64


class LateText:
    """The detokenizer of one stream: ``push`` tokens, and ``push_many`` returns their text once ``then`` is called.

    It lives on the event loop. Text comes in the order of its tokens.
    """

    def __init__(self, decode: Decode, table: TokenTable, skip_special: bool) -> None:
        self._decode = decode
        self._window = Window(table, skip_special)
        self._queue: deque[tuple[list[int] | None, Callable[[], None]]] = deque()
        self._draining: asyncio.Task[None] | None = None
        self._text = ""  # of the tokens that are being taken in
        self._tail: str | None = None  # of all that was held back, once the end was announced

    @property
    def has_ended(self) -> bool:
        """Whether all text is there, the last one too."""
        return self._tail is not None

    def push(self, tokens: list[int], then: Callable[[], None], failed: Callable[[RpcError], None]) -> None:
        """Have ``tokens`` decoded, then call ``then``, in which ``push_many`` returns their text."""
        self._put(tokens, then, failed)

    def end(self, then: Callable[[], None], failed: Callable[[RpcError], None]) -> None:
        """There are no more tokens: call ``then`` when ``finish`` can say what was held back."""
        self._put(None, then, failed)

    def discard(self) -> None:
        """Forget tokens whose text has not come: their engine is gone, and the next one says them again."""
        self._queue.clear()
        if self._draining is not None:
            self._draining.cancel()
            self._draining = None

    # What a stream asks of its detokenizer.

    def push_many(self, tokens: list[int]) -> str:
        text, self._text = self._text, ""
        return text

    def finish(self) -> str:
        return self._tail or ""

    def _put(self, tokens: list[int] | None, then: Callable[[], None], failed: Callable[[RpcError], None]) -> None:
        self._queue.append((tokens, then))
        if self._draining is None:
            self._draining = asyncio.get_running_loop().create_task(self._drain(failed))

    async def _drain(self, failed: Callable[[RpcError], None]) -> None:
        try:
            while self._queue:
                tokens, then = self._queue[0]
                if tokens is None:
                    self._tail = await self._rest()
                else:
                    self._text = self._window.taken_in(tokens, await self._decode(self._window.with_new(tokens)))
                self._queue.popleft()
                then()
        except RpcError as error:
            self._queue.clear()
            failed(error)
        finally:
            if self._draining is asyncio.current_task():
                self._draining = None

    async def _rest(self) -> str:
        (whole,) = await self._decode(self._window.all_tokens())
        rest = self._window.beyond_what_was_given(whole)
        return self._window.end(await self._decode(self._window.last_tokens())) if rest is None else rest


class Window:
    """The tokens so far, and how much of their text was given out. Pure: decoding is for others."""

    def __init__(self, table: TokenTable, skip_special: bool) -> None:
        self._table = table
        self._skipped = table.special if skip_special else frozenset()
        self._in_run = False  # of byte tokens, which may still turn out not to be UTF-8
        self._tokens: list[int] = []
        self._start = 0  # the window begins here
        self._read = 0  # the text of this many tokens has been given out
        self._due = 0  # look again when there are this many tokens
        self._given: list[str] = []

    def with_new(self, tokens: list[int]) -> list[list[int]]:
        """The runs to decode for ``taken_in``; none while it is too early to look."""
        if len(self._tokens) + len(tokens) < self._due:
            return []
        return [self._tokens[self._start : self._read], [*self._tokens[self._start :], *tokens]]

    def taken_in(self, tokens: list[int], texts: list[str]) -> str:
        """The text that is certain now that ``tokens`` have come; ``texts`` is what ``with_new`` asked for."""
        self._tokens += tokens
        for token in tokens:
            if token not in self._skipped and (string := self._table.token(token)) is not None:
                self._in_run = fallback_byte(string) is not None
        if not texts:
            return ""
        before, text = texts
        if self._in_run or text.endswith("\ufffd") or not text.startswith(before):
            waiting = len(self._tokens) - self._read
            self._due = len(self._tokens) + (waiting if waiting > _LIMIT_TOKENS else 1)
            return ""
        return self._give(text[len(before) :])

    def all_tokens(self) -> list[list[int]]:
        """The run to decode for ``beyond_what_was_given``."""
        return [self._tokens]

    def beyond_what_was_given(self, whole: str) -> str | None:
        """What the decoder makes of all tokens beyond what was given out; None if it has taken back some of that."""
        given = "".join(self._given)
        return whole[len(given) :] if whole.startswith(given) else None

    def last_tokens(self) -> list[list[int]]:
        """The runs to decode for ``end``."""
        return [self._tokens[self._start : self._read], self._tokens[self._start :]]

    def end(self, texts: list[str]) -> str:
        """What the window holds beyond what was given out."""
        before, window = texts
        return window[len(before) :]

    def _give(self, text: str) -> str:
        # The window keeps something visible at its start: decoders treat the first word of a text in their own way.
        if text.strip() or self._read - self._start >= _LIMIT_TOKENS:
            self._start = self._read
        self._read = len(self._tokens)
        self._given.append(text)
        return text
