"""Late text is the text of tokens that only the tokenizer can decode; a text process is asked for it."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence

from mlx_sidecar_protocol.errors import InternalError, RpcError

from .window import Decoding, Mark, Window

log = logging.getLogger(__name__)

# Decodes each run of tokens by itself.
Decode = Callable[[Sequence[Sequence[int]]], Awaitable[list[str]]]
Then = Callable[[], None]


class LateText:
    """The detokenizer of one stream; its text comes later than its tokens.

    Give it tokens with ``expect``; when ``then`` is called their text is there, and is taken as from any detokenizer.
    All this happens on the event loop. Text comes in the order of its tokens.
    """

    def __init__(self, decode: Decode, window: Window) -> None:
        self._decode = decode
        self._window = window
        self._begun = False
        self._queue: deque[tuple[list[int] | None, Then]] = deque()
        self._draining: asyncio.Task[None] | None = None
        self._mark: Mark | None = None  # of the window, before the tokens that are being decoded
        self._texts: deque[tuple[str, str]] = deque()  # of the tokens being taken in: certain text, held text
        self._pending = ""
        self._tail: str | None = None  # the text held back at the end
        self.one_by_one = False  # whether ``push`` will be asked, for each token
        self.tells_pending = False  # whether ``pending`` will be asked, too

    @property
    def has_ended(self) -> bool:
        """Whether all text is there, the last one too."""
        return self._tail is not None

    def expect(self, tokens: list[int] | None, then: Then, failed: Callable[[RpcError], None]) -> None:
        """Have ``tokens`` decoded, then call ``then``; None: there are no more, have ready the text of ``finish``.

        ``failed`` is called where the text cannot be had.
        """
        if tokens is not None:
            self._tail = None  # the end that was announced was none: the stream went on elsewhere
        self._queue.append((tokens, then))
        if self._draining is None:
            self._draining = asyncio.get_running_loop().create_task(self._drain(failed))

    def discard(self) -> None:
        """Forget tokens without a text so far: their engine is gone, and the next one says them again."""
        self._queue.clear()
        if self._draining is not None:
            self._draining.cancel()
            self._draining = None
        if self._mark is not None:
            self._window.rewind(self._mark)
            self._mark = None

    # Called by the stream.

    def push(self, token: int) -> str:
        text, self._pending = self._texts.popleft()
        return text

    def push_many(self, tokens: Sequence[int]) -> str:
        return "".join(map(self.push, tokens)) if self.one_by_one else self.push(tokens[0])

    def pending(self) -> str:
        return self._pending

    def finish(self) -> str:
        return self._tail or ""

    async def _drain(self, failed: Callable[[RpcError], None]) -> None:
        try:
            if not self._begun:
                await self._driven(self._window.begin())
                self._begun = True
            while self._queue:
                tokens, then = self._queue[0]
                self._mark = self._window.mark()
                await self._fetch(tokens)
                self._mark = None
                self._queue.popleft()
                then()
        except RpcError as error:
            self._queue.clear()
            failed(error)
        except (ValueError, TypeError, IndexError):  # a text process may run a model's own code
            log.exception("text cannot be taken in")
            self._queue.clear()
            failed(InternalError())
        finally:
            if self._draining is asyncio.current_task():
                self._draining = None

    async def _fetch(self, tokens: list[int] | None) -> None:
        """Have the text of ``tokens`` ready, or that of the end."""
        self._texts.clear()
        if tokens is None:
            self._tail = await self._driven(self._window.finish())
        elif not self.one_by_one:
            self._texts.append((await self._driven(self._window.push(tokens)), ""))
        else:
            for token in tokens:
                text = await self._driven(self._window.push([token]))
                held = await self._driven(self._window.pending()) if self.tells_pending else ""
                self._texts.append((text, held))

    async def _driven(self, decoding: Decoding) -> str:
        try:
            runs = next(decoding)
            while True:
                runs = decoding.send(await self._decode(runs))
        except StopIteration as done:
            text: str = done.value
            return text
