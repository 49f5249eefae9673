"""A registry and a mailbox with a stream in them, for tests that are the engine and the host at once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

from mlx_sidecar.front.api.fake_text import FakeText
from mlx_sidecar.front.output.stops import StopMatcher
from mlx_sidecar.front.streams.registry import Streams
from mlx_sidecar.front.streams.stream import Ending, Stream
from mlx_sidecar.front.wire.mailbox import Mailbox
from mlx_sidecar.link.messages import Cancel, FinishReason, Generate, Pause, Resume, Sampling, Submit, Timing, Tokens
from mlx_sidecar_protocol.errors import EngineLost

FAKE = FakeText()


class Bench:
    """A registry and a mailbox with one stream in them; ``told`` is what the engine was told."""

    def __init__(self, stop: list[str] | None = None, **options: Any) -> None:
        self.told: list[Cancel | Pause | Resume] = []
        self.mailbox = Mailbox()
        self.streams = Streams(self.mailbox, self.told.append)
        self.stream = self.open("s", stop or [], **options)

    def open(self, name: str, stop: list[str], **options: Any) -> Stream:
        submit = Submit(self.streams.next_number(), "fake", [1], Generate(Sampling(), [], 100))
        stream = Stream(submit, name, FAKE.detokenizer(), StopMatcher(stop), **options)
        self.streams.open(stream)
        return stream

    def say(self, tokens: bytes, **more: Any) -> None:
        """The engine decodes these tokens of the first stream."""
        self.streams.on_tokens(Tokens(self.stream.seq, list(tokens), **more))

    def deltas(self, limit_bytes: int = 1 << 30) -> list[dict[str, Any]]:
        """What the host reads now, or the first ``limit_bytes`` of it and a delta more."""
        return [json.loads(body)["params"] for body in self.mailbox.drain(limit_bytes)]

    def finish(self, reason: FinishReason = "stop") -> None:
        self.streams.finish(self.stream, Ending(reason, True, Timing()))

    def give_up(self) -> None:
        """There is no engine any more."""
        self.streams.finish(self.stream, Ending("error", True, Timing(), error=EngineLost("test")))


def on_loop(test: Callable[[], None]) -> None:
    """Run ``test`` where there is an event loop."""

    async def run() -> None:
        test()

    asyncio.run(run())
