"""A connection is opened before all that it serves is there: `initialize` is answered, the rest waits in its order."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from mlx_sidecar.config import Config
from mlx_sidecar.front.opening import Opening
from mlx_sidecar.front.wire import intake
from mlx_sidecar.front.wire.context import RequestContext
from mlx_sidecar.front.wire.dispatcher import Method
from mlx_sidecar_protocol.envelope import Request
from mlx_sidecar_protocol.framing import FrameDecoder, encode_frame
from mlx_sidecar_protocol.limits import DEFAULT_LIMITS
from mlx_sidecar_protocol.operations import NoParams
from tests.support.memory_wire import MemoryWire
from tests.support.sidecar import ROOT, sidecar

INITIALIZE = {"protocol_version": 1, "client": {"name": "test"}}


class Host:
    """A host of an opening, and what it has heard."""

    def __init__(self) -> None:
        self.decoder = FrameDecoder()
        self.wire = MemoryWire(self.hear)
        self.heard: list[Any] = []
        self.silences = 0
        self.opening = Opening(Config(engine="fake"), "an instance", self.wire.reader, self.wire.open_writer)
        self.running = asyncio.create_task(self.opening.session.run())

    @property
    def ids(self) -> list[Any]:
        return [frame["id"] for frame in self.heard]

    def hear(self, data: bytes) -> None:
        for frame in self.decoder.feed(data):
            assert isinstance(frame, bytes)
            self.heard.append(json.loads(frame))

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


def test_the_lifecycle_and_pings_are_answered_and_all_else_waits_in_its_order() -> None:
    async def test() -> None:
        host = Host()
        host.send(request(1, "initialize", INITIALIZE), request(2, "ping"), request(3, "quick"), request(4, "ping"))
        await settled()
        assert host.ids == [1, 2, 4]
        assert host.heard[0]["result"]["instance"] == "an instance"
        host.send(
            request(5, "nonsense"), request(6, "initialize", INITIALIZE), [request(7, "ping"), request(8, "ping")]
        )
        await settled()
        assert [answer["id"] for answer in host.heard.pop()] == [7, 8]
        assert host.ids == [1, 2, 4]
        host.serve()
        await settled()
        assert host.ids == [1, 2, 4, 3, 5, 6]
        host.wire.end_input()
        assert await host.running == 0

    run(test())


def test_a_cancel_or_a_shutdown_does_not_overtake_the_request_before_it() -> None:
    async def test() -> None:
        host = Host()
        cancel = {"jsonrpc": "2.0", "method": "$/cancelRequest", "params": {"id": 1}}
        host.send(request(1, "slow"), cancel, request(2, "slow"), request(3, "shutdown"), request(4, "quick"))
        await settled()
        assert not host.heard
        host.serve()
        await settled()
        said = {frame["id"]: frame["error"]["data"]["kind"] if "error" in frame else "served" for frame in host.heard}
        assert said == {1: "cancelled", 2: "served", 3: "served", 4: "shutting_down"}
        host.opening.session.end(0)
        await host.running

    run(test())


def test_an_error_that_ends_the_session_comes_behind_the_answers_to_what_was_said_before_it() -> None:
    async def test() -> None:
        host = Host()
        host.wire.write(encode_frame(json.dumps(request(1, "quick")).encode(), "headers"))
        host.wire.write(b"Content-Length: nonsense\r\n\r\n")
        await settled()
        assert not host.running.done()
        host.serve()
        assert await host.running == 1
        assert [frame.get("id") for frame in host.heard] == [1, None]

    run(test())


def test_so_much_waits_and_no_more_is_read_until_it_is_handled() -> None:
    async def test() -> None:
        host = Host()
        half = "x" * (intake.KEPT_LIMIT_BYTES // 2)
        for id_ in (1, 2):
            host.send(request(id_, "quick", {"text": half}))
            host.send(request(10 + id_, "ping"))
        await settled()
        assert host.ids == [11]
        host.serve()
        await settled()
        assert host.ids == [11, 1, 2, 12]
        host.opening.session.end(0)
        await host.running

    run(test())


METHODS = st.sampled_from(["ping", "quick", "slow", "nonsense", "initialize", "shutdown"])
SIZES = st.sampled_from([0, 0, 0, intake.KEPT_LIMIT_BYTES // 3, intake.LARGE_BYTES + 1])


@given(st.lists(st.tuples(METHODS, SIZES, st.integers(0, 3)), max_size=12), st.integers(0, 12))
def test_whenever_the_methods_come_requests_begin_in_their_order_and_each_has_one_answer(
    messages: list[tuple[str, int, int]], served_before: int
) -> None:
    async def test() -> None:
        host = Host()
        for number, (method, size_bytes, turns) in enumerate(messages):
            if number == served_before:
                host.serve()
            host.send(request(number, method, {"padding": "x" * size_bytes} if size_bytes else None))
            for _ in range(turns):
                await asyncio.sleep(0)
        if served_before >= len(messages):
            host.serve()
        host.wire.end_input()
        assert await host.running == 0
        assert sorted(host.ids) == list(range(len(messages)))
        answered_at_once = [n for n, (method, *_) in enumerate(messages) if method not in ("ping", "slow", "shutdown")]
        assert [n for n in host.ids if n in answered_at_once] == answered_at_once

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


def test_a_message_that_waited_comes_before_a_large_one_that_has_been_parsed_and_waits_for_room() -> None:
    async def test() -> None:
        handled: list[Any] = []
        all_is_there = False
        waiting: asyncio.Future[Callable[[], None]] = asyncio.get_running_loop().create_future()

        def handle(parsed: intake.Parsed, _: int) -> bool:
            if all_is_there:
                assert isinstance(parsed, Request)
                handled.append(parsed.id)
            return all_is_there

        def wait_for_room(go_on: Callable[[], None]) -> bool:
            if not large_is_parsed or waiting.done():
                return False
            waiting.set_result(go_on)
            return True

        taken = intake.Intake(DEFAULT_LIMITS, handle, wait_for_room, lambda _: None)
        large_is_parsed = False
        small, large = request(1, "quick"), request(2, "quick", {"text": "x" * intake.LARGE_BYTES})
        taken.take([json.dumps(message).encode() for message in (small, large)])
        large_is_parsed = True  # when the intake asks for room again
        go_on = await waiting
        all_is_there = True
        taken.go_on()
        assert not handled
        go_on()
        assert handled == [1, 2]

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


HELD = """
from mlx_sidecar.cli import main
from mlx_sidecar.front import running

import_front = running.import_front
running.import_front = lambda: (open({gate!r}).close(), import_front())[1]
main()
"""


def test_a_ping_behind_a_load_is_answered_while_what_serves_the_load_is_still_imported(tmp_path: Path) -> None:
    gate = str(tmp_path / "gate")
    os.mkfifo(gate)  # opened for reading it waits for a writer
    with sidecar("--engine", "fake", program=("-c", HELD.format(gate=gate))) as host:
        host.initialize()
        load, ping = host.request("load", {"model": "m"}), host.request("ping")
        assert host.result(ping) == {}
        Path(gate).open("wb").close()
        assert host.result(load)["model"] == "m"


def test_initialize_waits_for_no_model_of_other_methods_and_nothing_of_what_they_do() -> None:
    code = (
        "import sys; from mlx_sidecar.front.serve import _import_opening; _import_opening()\n"
        "late = ('mlx_sidecar.front.api', 'mlx_sidecar.front.streams', 'mlx_sidecar.front.output',"
        " 'mlx_sidecar_protocol.operations', 'mlx_sidecar_protocol.generate', 'mlx_sidecar_protocol.notifications')\n"
        "print([name for name in sys.modules if name.startswith(late)])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"
