"""The engine's loop without a process: turned by hand, its time a number that the test moves on."""

from __future__ import annotations

import time
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, cast

from mlx_sidecar.engine.assembly import assemble
from mlx_sidecar.engine.core.batch import Event, StepFailed, Work
from mlx_sidecar.engine.fake.fake_engine import FakeBackend, FakeBatch
from mlx_sidecar.engine.fake.fake_script import Script
from mlx_sidecar.engine.inbox import Background
from mlx_sidecar.engine.outbox import LinkOutbox
from mlx_sidecar.engine.resident_models import Backend, LoadedModel, LoadStep
from mlx_sidecar.engine.scheduling.scheduler import Limits
from mlx_sidecar.link.codec import Decoder
from mlx_sidecar.link.control_messages import EngineStats, Load, Loaded, QueryStats
from mlx_sidecar.link.faults import fault_of
from mlx_sidecar.link.heartbeat_page import HeartbeatPage
from mlx_sidecar.link.messages import Finished, Generate, Sampling, Submit, ToEngine, ToFront, Tokens
from mlx_sidecar_protocol.errors import InternalError, OutOfMemory, RpcError
from tests.support.link import feed

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Generator, Iterable

    from mlx_sidecar.engine.core.preparer import Preparer
    from mlx_sidecar.engine.core.sequence import Sequence
    from mlx_sidecar.engine.inbox import Inbox

PATIENCE_S = 60.0  # with a background thread of this process
MOST_TURNS = 20_000  # a loop that needs more does not get on


class FaultyBatch(FakeBatch):
    """Fails when it is told to, and keeps a hundred bytes of each prefill that is broken off."""

    def __init__(self, script: Script) -> None:
        super().__init__(script)
        self.next_failure: RpcError | None = None
        self.reclaimable_bytes = 0

    def step(self, work: list[Work], now: float) -> list[Event]:
        failure, self.next_failure = self.next_failure, None
        if failure is None:
            return super().step(work, now)
        released_bytes, self.reclaimable_bytes = self.reclaimable_bytes, 0
        self._failed(failure, work)
        raise StepFailed(fault_of(failure), [given.sequence for given in work], released_bytes)

    def close(self, sequence: Sequence, *, keep: bool) -> None:
        super().close(sequence, keep=keep)
        self.reclaimable_bytes += 100 if keep else 0

    def release(self) -> None:
        self.reclaimable_bytes = 0


class FaultyBackend(FakeBackend):
    """Every model gets a batch that can be made to fail."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: dict[str, FaultyBatch] = {}

    def load(self, load: Load) -> Generator[LoadStep, None, LoadedModel]:
        loaded = yield from super().load(load)
        batch = self.batches[load.model] = FaultyBatch(Script.of(load.model))
        return loaded._replace(batch=batch)


class Inline:
    """Both ends of the link. Each look at the clock takes a millisecond."""

    def __init__(
        self,
        limit_bytes: int,
        limits: Limits | None = None,
        backend: Backend | None = None,
        preparers: Iterable[Preparer] = (),
    ) -> None:
        self.now = time.monotonic() + 1e6  # what a script delays by the system's clock is long due
        self.backend = FaultyBackend()
        self.page = HeartbeatPage.create()
        self.seen: list[ToFront] = []
        self._decoder: Decoder[ToFront] = Decoder(ToFront)  # type: ignore[arg-type]  # a union is not a type[T]
        self._queue: list[ToEngine | Background] = []
        self._background: SimpleQueue[Background] = SimpleQueue()
        self._idle_s = 0.0
        self._ops = 0
        self.engine = assemble(
            LinkOutbox(cast("socket.socket", self)),
            cast("Inbox", self),
            backend or self.backend,
            limits or Limits(),
            limit_bytes,
            page=self.page,
            preparers=preparers,
            clock=self._clock,
        )

    def close(self) -> None:
        self.page.close()

    def send(self, *messages: ToEngine | Background) -> None:
        """Say something: it is heard at the end of the next turn."""
        self._queue += messages

    def turn(self) -> bool:
        """One turn of the loop; whether there is more to do now."""
        self._idle_s = 0.0
        self.engine.turn()
        return self._idle_s <= 0.0

    def settle(self) -> None:
        """Turn until nothing is left to do but wait."""
        for _ in range(MOST_TURNS):
            if not self.turn():
                return
        raise AssertionError("it never comes to rest")

    def until(self, reached: Callable[[], bool]) -> None:
        """Turn until ``reached``, and wait for background threads where nothing else is left to do."""
        self.settle()
        while not reached():
            self.send(self._background.get(timeout=PATIENCE_S))
            self.settle()

    def load(self, *models: str, path: str = "") -> None:
        for model in models:
            self._ops += 1
            self.send(Load(self._ops, model, path))
            self.settle()
            assert isinstance(self.seen[-1], Loaded), self.seen[-1]

    def submit(
        self, seq: int, model: str, tokens: int = 1, max_tokens: int = 8, sampling: Sampling | None = None
    ) -> None:
        self.send(Submit(seq, model, [1] * tokens, Generate(sampling or Sampling(), [], max_tokens)))

    def fail(self, model: str, need_bytes: int | None = None) -> None:
        """Let the next step of ``model`` fail: for want of ``need_bytes``, or by a bug."""
        failure = InternalError() if need_bytes is None else OutOfMemory(need_bytes=need_bytes, have_bytes=0)
        self.backend.batches[model].next_failure = failure

    def stats(self) -> EngineStats:
        self._ops += 1
        self.send(QueryStats(self._ops))
        while not any(isinstance(message, EngineStats) and message.op == self._ops for message in self.seen):
            self.turn()
        return next(message for message in reversed(self.seen) if isinstance(message, EngineStats))

    def finished(self, seq: int) -> Finished:
        [end] = [message for message in self.seen if isinstance(message, Finished) and message.seq == seq]
        return end

    def ended(self, seq: int) -> bool:
        return any(isinstance(message, Finished) and message.seq == seq for message in self.seen)

    def tokens(self, seq: int) -> list[int]:
        told = [message.tokens for message in self.seen if isinstance(message, Tokens) and message.seq == seq]
        return [token for tokens in told for token in tokens]

    # The loop takes these for its link, its inbox and its clock; background threads call ``put``.

    def put(self, event: object) -> None:
        self._background.put(Background(event))

    def sendall(self, data: bytes) -> None:
        self.seen += feed(self._decoder, data)

    def take(self, timeout_s: float) -> list[ToEngine | Background]:
        messages, self._queue = self._queue, []
        with suppress(Empty):
            while True:
                messages.append(self._background.get_nowait())
        self._idle_s = 0.0 if messages else timeout_s
        return messages

    def _clock(self) -> float:
        self.now += 0.001
        return self.now
