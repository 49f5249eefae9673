"""A gateway process with 32 streams that is told to end, told again, or killed."""

from __future__ import annotations

import signal
from itertools import cycle, islice

import anyio
import psutil
import pytest

from tests.gateway.endings import Ended, Spoken, streaming_routes
from tests.gateway.gateway_process import GatewayProcess, gateway_process
from tests.gateway.support import PATIENCE_S, Request, asking

pytestmark = pytest.mark.anyio

STREAMS = 32
ENDLESS = "fake?tokens=1000000&context=2000000&delay_ms=20"
SPOKEN = list(islice(cycle(streaming_routes()), STREAMS))


def port_of(gateway: GatewayProcess) -> int:
    return int(gateway.url.rpartition(":")[2])


class Crowd:
    """Clients of a gateway process, one for each stream."""

    def __init__(self, gateway: GatewayProcess, streams: list[tuple[Spoken, str]]) -> None:
        self._port = port_of(gateway)
        self._streams = streams
        self._left = len(streams)
        self._changed = anyio.Event()
        self.all_stream = anyio.Event()
        self.ended: list[tuple[str, Ended]] = []
        self.cut = 0

    async def run(self) -> None:
        """Read all streams to their ends."""
        async with anyio.create_task_group() as tasks:
            for spoken, model in self._streams:
                tasks.start_soon(self._one, spoken, model)

    async def _one(self, spoken: Spoken, model: str) -> None:
        body = spoken.body(model)
        if "max_tokens" in body:
            body["max_tokens"] = 10**6
        async with asking(self._port, spoken.path, body) as request:
            await _until_it_streams(request)
            self._left -= 1
            if not self._left:
                self.all_stream.set()
            response = await request.response()
        if response.is_complete:
            self.ended.append((model, spoken.ended(response.status, response.body)))
        else:
            self.cut += 1
        self._changed.set()
        self._changed = anyio.Event()

    async def until_ended(self, count: int) -> None:
        with anyio.fail_after(PATIENCE_S):
            while len(self.ended) < count:
                await self._changed.wait()


async def _until_it_streams(request: Request) -> None:
    """Until the head has come, which every stream has after a tenth of a second at most."""
    await request.until(b"\r\n\r\n")


async def test_a_signal_lets_streams_end_and_a_second_one_ends_the_others_with_an_error() -> None:
    with gateway_process("--engine", "fake", "--drain-timeout-s", "600") as gateway:
        short = [(spoken, spoken.model(delay_ms=20)) for spoken in SPOKEN[: STREAMS // 2]]
        crowd = Crowd(gateway, [*short, *((spoken, ENDLESS) for spoken in SPOKEN[STREAMS // 2 :])])
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(crowd.run)
            await crowd.all_stream.wait()
            gateway.process.send_signal(signal.SIGTERM)
            await crowd.until_ended(len(short))
            assert all(ended.error is None for _, ended in crowd.ended)
            gateway.process.send_signal(signal.SIGTERM)
        assert crowd.cut == 0
        endless = [ended.error for model, ended in crowd.ended if model == ENDLESS]
        assert len(endless) == STREAMS // 2
        assert set(endless) <= {"shutting_down", "response.failed"}
        assert gateway.process.wait(PATIENCE_S) == 0


async def test_a_killed_gateway_takes_its_sidecar_and_its_engine_along_and_cuts_streams_in_the_middle() -> None:
    with gateway_process("--engine", "fake") as gateway:
        children = psutil.Process(gateway.process.pid).children(recursive=True)
        assert len(children) >= 2
        crowd = Crowd(gateway, [(spoken, ENDLESS) for spoken in SPOKEN])
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(crowd.run)
            await crowd.all_stream.wait()
            gateway.process.kill()
        # Nothing can be said any more, but no stream looks whole: the last chunk of HTTP is missing.
        assert (crowd.cut, crowd.ended) == (STREAMS, [])
        _, alive = psutil.wait_procs(children, PATIENCE_S)
        assert not alive
