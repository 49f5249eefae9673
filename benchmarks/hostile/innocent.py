"""A host's other work, beside the hostile directories: one stream after the other, and texts."""

from __future__ import annotations

import asyncio
import time

from ..faults.host import PATIENCE_S, Host, within
from ..promises import Frame

_TEXT_EVERY_S = 0.1
_CHAT = [{"role": "user", "content": "Tell me of the sea, and of all that swims in it."}]


class Innocent:
    """Sends the embedded model the same requests again and again; ``differing`` has the answers that changed."""

    def __init__(self, host: Host, tokens: int) -> None:
        self.streams = 0
        self.differing: list[str] = []
        self.longest_text_s = 0.0  # from a `render` request to its answer
        self._host = host
        self._what: Frame = {"model": "pocket", "messages": _CHAT, "max_tokens": tokens, "ignore_eos": True}
        self._known: Frame = {}
        self._over = False
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Innocent:
        """Return when the undisturbed text is known."""
        self._known = (await self._generated())["result"]
        self._tasks = [asyncio.create_task(each) for each in (self._stream(), self._text())]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._over = True
        for failed in await asyncio.gather(*self._tasks, return_exceptions=True):
            if isinstance(failed, Exception):
                self.differing.append(f"the innocent host: {failed!r}")

    async def _generated(self) -> Frame:
        self.streams += 1
        return await within("innocent answer", self._host.ask({**self._what, "stream": f"innocent {self.streams}"}))

    async def _stream(self) -> None:
        while not self._over:
            answer = await self._generated()
            told = answer.get("result", answer)
            if (told.get("text"), told.get("tokens")) != (self._known["text"], self._known["tokens"]):
                self.differing.append(f"innocent stream {self.streams}: {told.get('text')!r}, {answer.get('error')}")

    async def _text(self) -> None:
        while not self._over:
            began = time.monotonic()
            answer = await self._host.answer("render", {"model": "pocket", "messages": _CHAT}, PATIENCE_S)
            self.longest_text_s = max(self.longest_text_s, time.monotonic() - began)
            if "result" not in answer:
                self.differing.append(f"innocent render: {answer['error']}")
            await asyncio.sleep(_TEXT_EVERY_S)
