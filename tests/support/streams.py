"""A registry and a mailbox with a stream in them, for tests that are the engine and the host at once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from mlx_sidecar.front.api.fake_text import FakeText
from mlx_sidecar.front.output.detokenizer import Detokenizer
from mlx_sidecar.front.output.stops import StopMatcher
from mlx_sidecar.front.streams.registry import Streams
from mlx_sidecar.front.streams.task import Ending, EngineTask, OpenTasks
from mlx_sidecar.front.streams.text_stream import TextStream
from mlx_sidecar.front.wire.mailbox import Mailbox
from mlx_sidecar.link.messages import Cancel, FinishReason, Generate, Pause, Resume, Sampling, Submit, Timing, Tokens
from mlx_sidecar_protocol.errors import EngineLost

FAKE = FakeText()


class Bench:
    """A registry and a mailbox with one stream in them; ``told`` holds the engine's messages."""

    def __init__(self, stop: list[str] | None = None, **options: Any) -> None:
        self.told: list[Cancel | Pause | Resume] = []
        self.mailbox = Mailbox()
        self.streams = Streams(self.mailbox, self.post)
        self.tasks = OpenTasks()
        self.held: dict[str, ExitStack] = {}
        self.stream = self.open("s", stop or [], **options)
        self.task = self.stream.task

    def open(self, name: str, stop: list[str], detokenizer: Detokenizer | None = None, **options: Any) -> TextStream:
        task = EngineTask(Submit(self.tasks.next_number(), "fake", [1], Generate(Sampling(), [], 100)))
        stream = TextStream(task, name, detokenizer or FAKE.detokenizer(), StopMatcher(stop), **options)
        self.tasks.open(task)
        self.held[name] = ExitStack()
        self.held[name].enter_context(self.streams.hearing(stream))
        return stream

    def close(self, name: str) -> None:
        """The request of stream ``name`` has been answered."""
        self.held.pop(name).close()

    def post(self, message: Cancel | Pause | Resume) -> None:
        self.told.append(message)
        if (task := self.tasks.get(message.seq)) is not None:
            task.told(message)

    def say(self, tokens: bytes, **more: Any) -> None:
        """The engine decodes these tokens of the first stream."""
        listener = self.task.listener
        assert listener is not None
        listener.on_tokens(Tokens(self.task.seq, list(tokens), **more))

    def deltas(self, limit_bytes: int = 1 << 30) -> list[dict[str, Any]]:
        """The messages that the host reads now, or the first ``limit_bytes`` of it and a delta more."""
        return [json.loads(body)["params"] for body in self.mailbox.drain(limit_bytes)]

    def finish(self, reason: FinishReason = "stop") -> None:
        self.task.finish(Ending(reason=reason, started=True, timing=Timing()))

    def give_up(self) -> None:
        """There is no engine any more."""
        self.task.finish(Ending(reason="error", started=True, timing=Timing(), error=EngineLost("test")))


def on_loop(test: Callable[[], None]) -> None:
    """Run ``test`` where there is an event loop."""

    async def run() -> None:
        test()

    asyncio.run(run())
