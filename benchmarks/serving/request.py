"""A request to a contender, and its outcome."""

from __future__ import annotations

import asyncio
import math
import time
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any


@dataclass(frozen=True)
class Request:
    """A prompt, as tokens and as the text that gives them, and how to continue it.

    ``chat``: the text is sent as a user's message and goes through the model's template. ``settings`` have the names
    that the protocol and mlx_lm.server share: temperature, top_p, top_k, min_p. None of the models' tokens ends a text,
    so an answer has ``max_tokens`` tokens unless it is cancelled.
    """

    tokens: list[int]
    text: str
    max_tokens: int
    settings: dict[str, Any] = field(default_factory=dict)
    seed: int | None = None
    chat: bool = False


class ContenderFailed(Exception):
    """A contender refused a request, broke off, or its process ended."""


class Flight:
    """One request on its way. Times are seconds on the monotonic clock, which all processes of a machine share."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.sent_s = time.monotonic()
        self.deltas: list[tuple[float, int]] = []  # when, and how many tokens
        self.tokens: list[int] = []  # where the contender reports them
        self.completion_tokens = 0
        self.finish: str | None = None
        self.ended_s = math.inf
        self.began = asyncio.Event()
        self.over = asyncio.Event()
        self._error: ContenderFailed | None = None

    def hear(self, at_s: float, tokens: int) -> None:
        """Note that ``tokens`` tokens arrived together."""
        self.deltas.append((at_s, tokens))
        self.began.set()

    def end(self, at_s: float, finish: str, completion_tokens: int) -> None:
        self.ended_s, self.finish, self.completion_tokens = at_s, finish, completion_tokens
        self._release()

    def fail(self, why: str) -> None:
        self._error = ContenderFailed(why)
        self._release()

    async def first(self) -> None:
        """Return when the first token is there. Raises ContenderFailed if there will be none."""
        await self.began.wait()
        if self._error is not None:
            raise self._error

    async def result(self) -> Flight:
        """Return this flight when it is over. Raises ContenderFailed."""
        await self.over.wait()
        if self._error is not None:
            raise self._error
        return self

    @property
    def first_token_s(self) -> float:
        """Seconds from sending to the first token; infinite if none came."""
        return self.deltas[0][0] - self.sent_s if self.deltas else math.inf

    @property
    def gaps_s(self) -> list[float]:
        """Seconds between one delta and the next."""
        return [after - before for (before, _), (after, _) in pairwise(self.deltas)]

    def _release(self) -> None:
        self.began.set()
        self.over.set()
