"""A connection is opened before all that it serves is there: `initialize` is answered, the rest waits in its order."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Coroutine
from typing import Any

from mlx_sidecar.config import Config
from mlx_sidecar.front.opening import Opening
from mlx_sidecar.front.wire import intake
from mlx_sidecar.front.wire.context import RequestContext
from mlx_sidecar.front.wire.dispatcher import Method
from mlx_sidecar_protocol.operations import NoParams
from tests.support.memory_wire import MemoryWire
from tests.support.sidecar import ROOT

INITIALIZE = {"protocol_version": 1, "client": {"name": "test"}}


class Host:
    """A host of an opening, and what it has heard."""

    def __init__(self) -> None:
        self.wire = MemoryWire(lambda data: self.heard.extend(map(json.loads, data.splitlines())))
        self.heard: list[Any] = []
        self.silences = 0
        self.opening = Opening(Config(engine="fake"), "an instance", self.wire.reader, self.wire.open_writer)
        self.running = asyncio.create_task(self.opening.session.run())

    @property
    def ids(self) -> list[Any]:
        return [frame["id"] for frame in self.heard]

    def send(self, *messages: Any) -> None:
        self.wire.write(b"".join(json.dumps(message).encode() + b"\n" for message in messages))

    def serve(self) -> None:
        def quick(_: RequestContext, __: NoParams) -> bytes:
            return b'"quick"'

        async def slow(_: RequestContext, __: NoParams) -> bytes:
            return b'"slow"'

        def silent() -> None:
            self.silences += 1

        methods: list[Method[Any]] = [Method("quick", NoParams, quick, quick=True), Method("slow", NoParams, slow)]
        self.opening.session.serve(methods, silent)


def request(id_: int, method: str, params: Any = None) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": id_, "method": method, "params": params}


async def settled() -> None:
    """All that can happen without another event has happened."""
    for _ in range(20):
        await asyncio.sleep(0)


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(test, 60))


def test_the_lifecycle_is_answered_and_all_else_waits_in_its_order() -> None:
    async def test() -> None:
        host = Host()
        host.send(request(1, "initialize", INITIALIZE), request(2, "ping"), request(3, "quick"), request(4, "ping"))
        await settled()
        assert host.ids == [1, 2]
        assert host.heard[0]["result"]["instance"] == "an instance"
        host.send(request(5, "nonsense"))
        await settled()
        assert host.ids == [1, 2]
        host.serve()
        await settled()
        assert host.ids == [1, 2, 3, 4, 5]
        host.wire.end_input()
        assert await host.running == 0

    run(test())


def test_a_batch_waits_whole_if_one_of_its_methods_is_still_to_come() -> None:
    async def test() -> None:
        host = Host()
        host.send([request(1, "ping"), request(2, "quick")])
        await settled()
        assert not host.heard
        host.serve()
        await settled()
        assert [answer["id"] for answer in host.heard[0]] == [1, 2]
        host.opening.session.end(0)
        await host.running

    run(test())


def test_a_message_so_large_that_a_thread_parses_it_waits_too() -> None:
    async def test() -> None:
        host = Host()
        host.send(request(1, "quick", {"text": "x" * (intake.LARGE_BYTES + 1)}), request(2, "ping"))
        await settled()
        host.serve()
        while len(host.heard) < 2:
            await asyncio.sleep(0)
        assert host.heard[0]["error"]["data"]["kind"] == "invalid_params"
        assert host.ids == [1, 2]
        host.opening.session.end(0)
        await host.running

    run(test())


def test_a_host_that_has_said_all_before_is_told_silent_then_and_gets_its_answers() -> None:
    async def test() -> None:
        host = Host()
        host.send(request(1, "slow"))
        host.wire.end_input()
        await settled()
        host.serve()
        assert host.silences == 1
        assert await host.running == 0
        assert host.heard == [{"jsonrpc": "2.0", "id": 1, "result": "slow"}]

    run(test())


def test_a_host_that_exits_before_all_is_there_is_let_go_and_what_waited_is_dropped() -> None:
    async def test() -> None:
        host = Host()
        host.send(request(1, "shutdown"), {"jsonrpc": "2.0", "method": "exit"}, request(2, "quick"))
        assert await host.running == 0
        host.serve()
        assert 2 not in host.ids

    run(test())


def test_initialize_waits_for_no_model_of_other_methods_and_nothing_of_what_they_do() -> None:
    code = (
        "import sys; from mlx_sidecar.front.serve import _import_opening; _import_opening()\n"
        "late = ('mlx_sidecar.front.api', 'mlx_sidecar.front.streams', 'mlx_sidecar.front.output',"
        " 'mlx_sidecar_protocol.operations', 'mlx_sidecar_protocol.generate', 'mlx_sidecar_protocol.notifications')\n"
        "print([name for name in sys.modules if name.startswith(late)])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"
