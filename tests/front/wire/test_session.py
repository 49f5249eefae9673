"""A connection from bytes to answers: each accepted request is answered exactly once, whatever happens."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlx_sidecar.front.wire import bounds as bounds_module
from mlx_sidecar.front.wire import in_flight as in_flight_module
from mlx_sidecar.front.wire import intake as intake_module
from mlx_sidecar.front.wire import session as session_module
from mlx_sidecar.front.wire.bounds import Bounds
from mlx_sidecar.front.wire.context import RequestContext
from mlx_sidecar.front.wire.dispatcher import Dispatcher, Method
from mlx_sidecar.front.wire.fixtures import Fixtures
from mlx_sidecar.front.wire.mailbox import Mailbox
from mlx_sidecar.front.wire.reader import Reader
from mlx_sidecar.front.wire.session import Session
from mlx_sidecar.front.wire.writer import Writer
from mlx_sidecar_protocol import envelope
from mlx_sidecar_protocol.errors import ModelNotLoaded, RpcError
from mlx_sidecar_protocol.limits import Limits
from mlx_sidecar_protocol.operations import (
    CacheTiers,
    InitializeParams,
    InitializeResult,
    NoParams,
    ServerCapabilities,
    ServerInfo,
    ServerLimits,
)

SOON_S = 60.0  # a bound for what must happen, not a measurement
INITIALIZE = {"protocol_version": 1, "client": {"name": "test"}, "process_id": 4321}


class Host:
    """The other end: sends messages, collects the answers, in the same loop."""

    def __init__(self, methods: list[Method[Any]], limits: Limits, **bounds: int) -> None:
        read, self._to_server = os.pipe()
        self._from_server, ours = socket.socketpair()
        self.mailbox = Mailbox()
        reader = Reader(read)
        reader.start()
        self.wire = ours.detach()
        writer = Writer(self.wire, self.mailbox)
        held = Bounds(self.mailbox, **bounds)
        self.session = Session(
            methods, initialize, reader=reader, writer=writer, mailbox=self.mailbox, limits=limits, bounds=held
        )
        self.received: list[Any] = []
        self._arrived = anyio.Event()
        self._ended = anyio.Event()
        self._loop = asyncio.get_running_loop()
        threading.Thread(target=self._collect, daemon=True).start()

    def _collect(self) -> None:
        with self._from_server, self._from_server.makefile("rb") as stream:
            for line in stream:
                self._loop.call_soon_threadsafe(self._take, json.loads(line))
        self._loop.call_soon_threadsafe(self._ended.set)

    def _take(self, message: Any) -> None:
        self.received.append(message)
        self._arrived.set()
        self._arrived = anyio.Event()

    def send(self, *messages: Any) -> None:
        os.write(self._to_server, b"".join(json.dumps(message).encode() + b"\n" for message in messages))

    def request(self, id_: Any, method: str, params: Any = None) -> None:
        self.send({"jsonrpc": "2.0", "id": id_, "method": method, "params": params})

    def notify(self, method: str, params: Any = None) -> None:
        self.send({"jsonrpc": "2.0", "method": method, "params": params})

    def close(self) -> None:
        os.close(self._to_server)

    async def everything(self) -> None:
        """Wait until the server's side is closed and all it wrote has arrived."""
        with anyio.fail_after(SOON_S):
            await self._ended.wait()

    async def answers(self, count: int) -> list[Any]:
        with anyio.fail_after(SOON_S):
            while len(self.received) < count:
                await self._arrived.wait()
        return self.received


def initialize(params: InitializeParams) -> InitializeResult:
    return InitializeResult(
        protocol_version=1,
        server=ServerInfo(name="test", version="0"),
        instance="test",
        capabilities=ServerCapabilities(
            methods=[], generate_parameters=[], autoload=False, cache=CacheTiers(ram=False, disk=False)
        ),
        limits=ServerLimits(frame_bytes=1, header_bytes=1, batch=1, nesting=1, journal_bytes=1),
    )


class Gate:
    """``wait`` blocks until ``release``; ``wait.result`` answers even when cancelled; ``wait.text`` ends a stream."""

    def __init__(self) -> None:
        self.opened = anyio.Event()
        self.entered: list[Any] = []
        self.endings: list[anyio.Event] = []
        self.mailbox: Mailbox | None = None
        self.shed: list[RpcError] = []
        self.at_once = self.most_at_once = 0

    def release(self) -> None:
        """Let everything end that has not yet."""
        self.opened.set()
        for ending in self.endings:
            ending.set()

    def methods(self) -> list[Method[Any]]:
        return [
            Method("wait", NoParams, self._wait),
            Method("wait.result", NoParams, self._result),
            Method("fail", NoParams, self._fail),
            Method("crash", NoParams, self._crash),
            Method("nonsense", NoParams, self._nonsense),
            Method("text", NoParams, self._text),
            Method("stuck", NoParams, self._stuck),
            Method("panic", NoParams, self._panic),
            Method("panic.quick", NoParams, self._panic_quick, quick=True),
            Method("panic.late", NoParams, self._panic_late),
            Method("long", None, self._long),
            Method("heavy", NoParams, self._heavy, heavy=True),
        ]

    async def _wait(self, context: RequestContext, params: NoParams) -> dict[str, Any]:
        self.entered.append(context.id)
        await self.opened.wait()
        return {"done": True}

    async def _result(self, context: RequestContext, params: NoParams) -> dict[str, Any]:
        ended = anyio.Event()
        if self.opened.is_set():
            ended.set()
        self.endings.append(ended)
        context.on_cancel(ended.set)
        self.entered.append(context.id)
        await ended.wait()
        return {"finish_reason": "cancelled"}

    async def _fail(self, context: RequestContext, params: NoParams) -> dict[str, Any]:
        await anyio.sleep(0)
        raise ModelNotLoaded("x")

    async def _crash(self, context: RequestContext, params: NoParams) -> dict[str, Any]:
        await anyio.sleep(0)
        raise KeyError("a secret")

    async def _nonsense(self, context: RequestContext, params: NoParams) -> Any:
        return {"what": object()}

    async def _text(self, context: RequestContext, params: NoParams) -> Any:
        talker = Talker()
        assert self.mailbox is not None
        context.answer_after(talker)
        for _ in range(3):
            talker.waiting += "x"
            self.mailbox.announce(talker, not_before=asyncio.get_running_loop().time() + 3600)
        return lambda: {"said": talker.said}

    async def _stuck(self, context: RequestContext, params: NoParams) -> dict[str, Any]:
        with anyio.CancelScope(shield=True):
            await self.opened.wait()
        return {}

    async def _panic(self, context: RequestContext, params: NoParams) -> dict[str, Any]:
        await anyio.sleep(0)
        raise Panic

    def _panic_quick(self, context: RequestContext, params: NoParams) -> dict[str, Any]:
        raise Panic

    async def _panic_late(self, context: RequestContext, params: NoParams) -> Any:
        def made() -> dict[str, Any]:
            raise Panic

        return made

    async def _long(self, context: RequestContext, params: Any) -> dict[str, Any]:
        """Two kilobytes, at once or when the gate is opened. It may be refused until then."""
        if params:
            context.on_shed(lambda error: self.shed.append(error))
            await self.opened.wait()
        if self.shed:
            raise self.shed[0]
        return {"text": "x" * 2000}

    async def _heavy(self, context: RequestContext, params: NoParams) -> dict[str, Any]:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        for _ in range(10):
            await anyio.sleep(0)
        self.at_once -= 1
        return {"text": "x" * 2000}


class Panic(BaseException):
    """A panic of a Rust library, as Python sees it."""


class Talker:
    def __init__(self) -> None:
        self.waiting = ""
        self.said = ""

    def take(self) -> bytes | None:
        if not self.waiting:
            return None
        text, self.waiting = self.waiting, ""
        self.said += text
        return json.dumps({"method": "delta", "params": {"text": text}}).encode()


async def run_within_bound(session: Session) -> int:
    return await asyncio.wait_for(session.run(), SOON_S)


Play = Callable[[Host, Gate], Coroutine[Any, Any, None]]


def serve(play: Play, limits: Limits | None = None, **bounds: int) -> tuple[list[Any], int]:
    """Run a session within ``bounds`` while ``play`` is the host; all that was received, and the exit status."""

    statuses: list[int] = []

    async def main() -> tuple[list[Any], int]:
        gate = Gate()
        host = Host([*Fixtures().methods(), *gate.methods()], limits or Limits(), **bounds)
        gate.mailbox = host.mailbox
        async with anyio.create_task_group() as tasks:

            async def act() -> None:
                await play(host, gate)

            tasks.start_soon(act)
            statuses.append(await run_within_bound(host.session))
        wire = socket.socket(fileno=host.wire)
        wire.shutdown(socket.SHUT_RDWR)  # wakes the thread that watches it, too
        wire.close()
        await host.everything()
        return host.received, statuses[0]

    return asyncio.run(main())


def error_of(message: Any) -> tuple[Any, int, str]:
    return message["id"], message["error"]["code"], message["error"]["data"]["kind"]


def test_cancel_ends_the_request_with_exactly_one_answer() -> None:
    async def play(host: Host, gate: Gate) -> None:
        host.request(1, "wait")
        host.notify("$/cancelRequest", {"id": 1})
        host.notify("$/cancelRequest", {"id": 1})
        assert error_of((await host.answers(1))[0]) == (1, -32800, "cancelled")
        host.close()

    received, status = serve(play)
    assert len(received) == 1
    assert status == 0


def test_a_handler_that_takes_cancelling_in_hand_answers_with_a_result() -> None:
    async def play(host: Host, gate: Gate) -> None:
        host.request("a", "wait.result")
        host.request(2, "ping")
        await host.answers(1)
        host.notify("$/cancelRequest", {"id": "a"})
        assert (await host.answers(2))[1] == {"jsonrpc": "2.0", "id": "a", "result": {"finish_reason": "cancelled"}}
        host.close()

    serve(play)


def test_a_fault_of_ours_between_two_messages_ends_the_process_and_what_runs_is_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object) -> None:
        raise KeyError("a fault of ours")

    async def play(host: Host, gate: Gate) -> None:
        host.request(1, "wait")
        host.request(2, "ping")
        await host.answers(1)
        monkeypatch.setattr(Dispatcher, "call", fail)
        host.request(3, "ping")

    received, status = serve(play)
    assert status == 1
    assert [message["id"] for message in received] == [2, 1]


def test_an_id_that_became_a_float_still_cancels_and_a_string_does_not() -> None:
    async def play(host: Host, gate: Gate) -> None:
        host.request(1, "wait")
        host.notify("$/cancelRequest", {"id": "1"})
        host.request(2, "ping")
        await host.answers(1)
        host.notify("$/cancelRequest", {"id": 1.0})
        assert error_of((await host.answers(2))[1])[0] == 1
        host.close()

    serve(play)


def test_the_id_of_a_running_request_cannot_be_used_again_until_it_is_answered() -> None:
    async def play(host: Host, gate: Gate) -> None:
        host.request(1, "wait")
        host.request(1, "wait")
        assert error_of((await host.answers(1))[0]) == (1, -32007, "duplicate_id")
        host.request(1, "ping")  # answered at once, so there is nothing to confuse it with
        await host.answers(2)
        gate.opened.set()
        await host.answers(3)
        host.request(1, "wait")
        await host.answers(4)
        host.close()

    received, _ = serve(play)
    assert [message.get("result") for message in received[1:]] == [{}, {"done": True}, {"done": True}]


@pytest.mark.parametrize(
    ("method", "code", "kind"),
    [("fail", -32003, "model_not_loaded"), ("crash", -32603, "internal_error"), ("nonsense", -32603, "internal_error")],
)
def test_a_failure_of_a_handler_is_one_typed_error(
    method: str, code: int, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def play(host: Host, gate: Gate) -> None:
        host.request(7, method)
        message = (await host.answers(1))[0]
        assert error_of(message) == (7, code, kind)
        assert "secret" not in json.dumps(message)
        host.close()

    assert len(serve(play)[0]) == 1
    assert (kind == "internal_error") == any(record.levelname == "ERROR" for record in caplog.records)


def test_a_batch_is_answered_once_in_order_when_its_last_element_is_done() -> None:
    async def play(host: Host, gate: Gate) -> None:
        host.send(
            [
                {"jsonrpc": "2.0", "id": 1, "method": "wait"},
                {"jsonrpc": "2.0", "method": "t.bump"},
                {"jsonrpc": "2.0", "id": 2, "method": "text"},
                7,
                {"jsonrpc": "2.0", "id": 3, "method": "ping"},
                {"jsonrpc": "2.0", "id": 4, "method": "t.sub", "params": {}},
            ]
        )
        host.request(5, "t.count")
        # The batch has begun before it and works beside it: docs/protocol.md promises no order of what they tell.
        assert {"jsonrpc": "2.0", "id": 5, "result": {"n": 1}} in await host.answers(2)
        gate.opened.set()
        await host.answers(3)
        host.close()

    received, _ = serve(play)
    assert {"method": "delta", "params": {"text": "xxx"}} in received[:2]
    assert [answer["id"] for answer in received[2]] == [1, 2, None, 3, 4]
    assert received[2][1]["result"] == {"said": "xxx"}
    assert error_of(received[2][2]) == (None, -32600, "invalid_request")
    assert error_of(received[2][4])[1:] == (-32602, "invalid_params")


def test_the_answer_comes_after_the_text_of_its_stream_and_does_not_wait_for_it_to_be_due() -> None:
    async def play(host: Host, gate: Gate) -> None:
        host.request(1, "text")
        await host.answers(2)
        host.close()

    received, _ = serve(play)
    assert received == [
        {"method": "delta", "params": {"text": "xxx"}},
        {"jsonrpc": "2.0", "id": 1, "result": {"said": "xxx"}},
    ]


def test_parameters_by_position_bind_in_declared_order_and_too_many_are_refused() -> None:
    async def play(host: Host, gate: Gate) -> None:
        host.request(1, "t.sub", [5, 3])
        host.request(2, "t.sub", [5, 3, 1])
        host.request(3, "t.sub", {"minuend": 5, "subtrahend": "3", "self": 1})
        host.request(4, "t.none", [1])
        await host.answers(4)
        host.close()

    received, _ = serve(play)
    assert received[0]["result"] == {"value": 2}
    assert [error_of(message)[1] for message in received[1:]] == [-32602] * 3
    faults = received[2]["error"]["data"]["errors"]
    assert {(*fault["loc"][:1],) for fault in faults} == {("subtrahend",), ("self",)}
    assert all(set(fault) == {"loc", "msg", "type"} for fault in faults)


def test_initialize_may_come_first_and_only_once() -> None:
    async def play(host: Host, gate: Gate) -> None:
        host.request(1, "ping")
        host.request(2, "initialize", {"protocol_version": 0})
        host.request(3, "initialize", INITIALIZE)
        host.notify("initialized")
        host.request(4, "initialize", INITIALIZE)
        await host.answers(4)
        assert host.session.initialized
        assert host.session.host_process_id == 4321
        host.close()

    received, _ = serve(play)
    assert received[0]["result"] == {}
    assert error_of(received[1])[1:] == (-32602, "invalid_params")
    assert received[2]["result"]["protocol_version"] == 1
    assert error_of(received[3])[1:] == (-32600, "invalid_request")


def test_shutdown_refuses_new_work_lets_the_rest_end_and_exit_is_0() -> None:
    async def play(host: Host, gate: Gate) -> None:
        host.request(1, "wait")
        host.request(2, "shutdown")
        host.request(3, "t.none")
        host.request(4, "ping")
        await host.answers(2)
        gate.opened.set()
        await host.answers(4)
        host.notify("exit")

    received, status = serve(play)
    assert status == 0
    assert error_of(received[0]) == (3, -32002, "shutting_down")
    assert [message["id"] for message in received[1:]] == [4, 1, 2]


def test_shutdown_can_cancel_what_runs() -> None:
    async def play(host: Host, gate: Gate) -> None:
        host.request(1, "wait")
        host.request(2, "shutdown", {"cancel": True})
        await host.answers(2)
        host.notify("exit")

    received, status = serve(play)
    assert status == 0
    assert error_of(received[0]) == (1, -32800, "cancelled")
    assert received[1]["result"] == {}


def test_exit_behind_shutdown_in_the_same_write_is_still_answered_in_full() -> None:
    async def play(host: Host, gate: Gate) -> None:
        shutdown = {"jsonrpc": "2.0", "id": 2, "method": "shutdown"}
        host.send(
            {"jsonrpc": "2.0", "id": 1, "method": "wait"},
            shutdown,
            {"jsonrpc": "2.0", "method": "exit"},
            {"jsonrpc": "2.0", "id": 3, "method": "ping"},
        )
        await host.answers(2)

    received, status = serve(play)
    assert status == 0
    assert sorted(message["id"] for message in received) == [1, 2]


def test_exit_without_shutdown_is_1_and_answers_what_ran() -> None:
    async def play(host: Host, gate: Gate) -> None:
        host.request(1, "wait")
        host.request(2, "wait.result")
        host.request(3, "ping")
        await host.answers(1)
        host.notify("exit")
        await host.answers(3)

    received, status = serve(play)
    assert status == 1
    assert [("result" in message) for message in received[1:]].count(True) == 1


def test_when_input_ends_what_runs_is_finished_first() -> None:
    async def play(host: Host, gate: Gate) -> None:
        host.request(1, "wait")
        host.request(2, "ping")
        host.close()
        await host.answers(1)
        gate.opened.set()
        await host.answers(2)

    received, status = serve(play)
    assert status == 0
    assert received[1]["result"] == {"done": True}


def test_when_input_ends_and_nobody_reads_nothing_is_waited_for() -> None:
    async def play(host: Host, gate: Gate) -> None:
        host.request(1, "wait")
        while not gate.entered:
            await anyio.sleep(0)
        host.close()

    statuses: list[int] = []

    async def main() -> None:
        gate = Gate()
        host = Host(gate.methods(), Limits())
        theirs, ours = os.pipe()
        writer = Writer(ours, host.mailbox)
        host.session._writer = writer
        os.close(theirs)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(play, host, gate)
            statuses.append(await run_within_bound(host.session))

    asyncio.run(main())
    assert statuses == [0]


def test_the_last_reader_may_also_leave_later() -> None:
    statuses: list[int] = []

    async def main() -> None:
        gate = Gate()
        host = Host(gate.methods(), Limits())
        theirs, ours = os.pipe()
        host.session._writer = Writer(ours, host.mailbox)

        async def play() -> None:
            host.request(1, "wait")
            host.close()
            while not gate.entered or not host.session._input_ended:
                await anyio.sleep(0)
            os.close(theirs)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(play)
            statuses.append(await run_within_bound(host.session))

    asyncio.run(main())
    assert statuses == [0]


def test_an_unusable_frame_ends_the_session_after_one_error() -> None:
    async def play(host: Host, gate: Gate) -> None:
        os.write(host._to_server, b"Content-Length: x\r\n\r\n")

    statuses: list[int] = []

    async def main() -> tuple[bytes, int]:
        gate = Gate()
        host = Host(gate.methods(), Limits())
        theirs, ours = os.pipe()
        host.session._writer = Writer(ours, host.mailbox)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(play, host, gate)
            statuses.append(await run_within_bound(host.session))
        os.close(ours)
        return os.read(theirs, 10_000), statuses[0]

    data, status = asyncio.run(main())
    assert status == 1
    assert data.count(b"Content-Length") == 2  # the header, and the message that names it
    assert b"-32600" in data


def test_a_line_over_the_limit_is_refused_and_the_next_is_served() -> None:
    async def play(host: Host, gate: Gate) -> None:
        host.request(1, "x" * 300)
        host.request(2, "ping")
        await host.answers(2)
        host.close()

    received, _ = serve(play, Limits(frame_bytes=200))
    assert error_of(received[0]) == (None, -32600, "frame_too_large")
    assert received[1]["id"] == 2


def test_a_handler_that_will_not_end_is_dropped_after_a_while_and_answered_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(session_module, "_PATIENCE_S", 0.01)

    async def play(host: Host, gate: Gate) -> None:
        host.request(1, "stuck")
        host.request(2, "ping")
        await host.answers(1)
        host.notify("exit")
        await anyio.sleep(0)
        gate.opened.set()
        await host.answers(2)

    received, status = serve(play)
    assert status == 1
    assert [message["id"] for message in received] == [2, 1]


def test_too_many_open_requests_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds_module, "OPEN_LIMIT", 2)

    async def play(host: Host, gate: Gate) -> None:
        for id_ in range(3):
            host.request(id_, "wait")
        assert error_of((await host.answers(1))[0]) == (2, -32005, "overloaded")
        gate.opened.set()
        host.close()

    assert len(serve(play)[0]) == 3


def test_answers_nobody_fetches_stop_us_from_reading_requests_and_none_is_lost() -> None:
    async def play(host: Host, gate: Gate) -> None:
        def flood() -> None:
            for id_ in range(200):
                host.request(id_, "t.echo", ["x" * 10_000])

        await asyncio.get_running_loop().run_in_executor(None, flood)
        host.close()

    received, _ = serve(play, answers_limit_bytes=1000)
    assert [message["id"] for message in received] == list(range(200))


@pytest.mark.parametrize("method", ["panic", "panic.quick", "panic.late"])
@pytest.mark.parametrize("batched", [False, True])
def test_what_a_handler_raises_of_any_kind_is_an_internal_error_of_its_request_alone(
    method: str, batched: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async def play(host: Host, gate: Gate) -> None:
        messages = [{"jsonrpc": "2.0", "id": id_, "method": name} for id_, name in enumerate(["wait", method, "ping"])]
        host.send(messages) if batched else host.send(*messages)
        while not any(record.message == "a handler failed" for record in caplog.records):
            await anyio.sleep(0)
        gate.release()
        host.close()

    received, status = serve(play)
    answers = {message["id"]: message for message in (received[0] if batched else received)}
    assert status == 0
    assert error_of(answers[1]) == (1, -32603, "internal_error")
    assert answers[0]["result"] == {"done": True}
    assert answers[2]["result"] == {}


def test_a_batch_whose_answers_are_too_long_together_is_refused_from_there_on_and_answered_whole() -> None:
    async def play(host: Host, gate: Gate) -> None:
        batch = [{"jsonrpc": "2.0", "id": id_, "method": "t.echo", "params": ["x" * 1000]} for id_ in range(50)]
        host.send([*batch, {"jsonrpc": "2.0", "id": 50, "method": "ping"}])
        await host.answers(1)
        host.request(51, "t.none")  # what was collected has been written: there is room again
        host.close()

    received, status = serve(play, answers_limit_bytes=10_000)
    assert status == 0
    answers = received[0]
    assert [answer["id"] for answer in answers] == list(range(51))
    kinds = ["result" if "result" in answer else answer["error"]["data"]["kind"] for answer in answers]
    fine = kinds.index("overloaded")
    assert 9 <= fine <= 11
    assert kinds == ["result"] * fine + ["overloaded"] * (50 - fine) + ["result"]
    data = answers[fine]["error"]["data"]
    assert (data["unit"], data["limit"], data["retry_after_s"]) == ("bytes", 10_000, 1.0)
    assert received[1]["result"] == {}


def test_requests_that_have_not_begun_are_refused_where_too_many_answers_wait() -> None:
    async def play(host: Host, gate: Gate) -> None:
        waiting = [{"jsonrpc": "2.0", "id": id_, "method": "long", "params": [1]} for id_ in range(3)]
        done = [{"jsonrpc": "2.0", "id": id_, "method": "long"} for id_ in range(3, 9)]
        host.send([*waiting, *done])
        while len(gate.shed) < 3:
            await anyio.sleep(0)
        gate.release()
        host.close()

    received, _ = serve(play, answers_limit_bytes=10_000)
    assert [error_of(answer)[2] for answer in received[0][:3]] == ["overloaded"] * 3


def test_few_heavy_requests_run_at_once() -> None:
    most: list[int] = []

    async def play(host: Host, gate: Gate) -> None:
        for id_ in range(20):
            host.request(id_, "heavy")
        await host.answers(20)
        most.append(gate.most_at_once)
        host.close()

    received, _ = serve(play, answers_limit_bytes=5_000)
    assert all("result" in message for message in received)
    assert most == [in_flight_module._HEAVY_AT_ONCE]


def test_bytes_of_requests_that_are_worked_on_are_bounded_and_given_back() -> None:
    async def play(host: Host, gate: Gate) -> None:
        padded = {"jsonrpc": "2.0", "method": "wait", "pad": "x" * 4000}
        host.send(*({**padded, "id": id_} for id_ in range(3)))
        host.request(3, "t.none")  # costs nothing once it is answered, so it is never too much
        assert error_of((await host.answers(1))[0]) == (2, -32005, "overloaded")
        gate.release()
        await host.answers(4)
        host.send({**padded, "id": 4})
        host.close()

    received, _ = serve(play, requests_limit_bytes=9_000)
    assert [message["id"] for message in received] == [2, 3, 0, 1, 4]
    assert "result" in received[-1]


def test_of_large_requests_one_is_worked_on_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds_module, "LARGE_BYTES", 1000)

    async def play(host: Host, gate: Gate) -> None:
        for id_ in range(2):
            host.send({"jsonrpc": "2.0", "id": id_, "method": "wait", "pad": "x" * 1000})
        host.request(2, "t.none")
        assert error_of((await host.answers(1))[0]) == (1, -32005, "overloaded")
        gate.release()
        host.close()

    received, _ = serve(play)
    assert [message["id"] for message in received] == [1, 2, 0]


def test_large_messages_are_parsed_elsewhere_and_taken_in_their_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake_module, "LARGE_BYTES", 1000)
    threads: set[str] = set()

    def parse(frame: bytes, limits: Limits) -> Any:
        threads.add(threading.current_thread().name)
        return envelope.parse(frame, limits)

    monkeypatch.setattr(intake_module, "parse", parse)

    async def play(host: Host, gate: Gate) -> None:
        for id_ in range(20):
            host.request(id_, "t.echo", ["x" * (2000 if id_ % 3 else 10)])
        host.close()

    received, status = serve(play)
    assert status == 0
    assert [message["id"] for message in received] == list(range(20))
    assert any(name.startswith("parser") for name in threads)


def test_a_message_that_cannot_be_parsed_for_want_of_memory_is_answered(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def parse(frame: bytes, limits: Limits) -> Any:
        if b"huge" in frame:
            raise MemoryError
        return envelope.parse(frame, limits)

    monkeypatch.setattr(intake_module, "parse", parse)

    async def play(host: Host, gate: Gate) -> None:
        host.request(1, "huge")
        host.request(2, "t.none")
        host.close()

    received, status = serve(play)
    assert [(message["id"], "result" in message) for message in received] == [(None, False), (2, True)]
    assert status == 0
    assert "could not be parsed" in caplog.text


def test_a_method_is_registered_once() -> None:
    method = Method("ping", NoParams, lambda _, __: {}, quick=True)
    with pytest.raises(ValueError, match="twice"):
        Dispatcher([method, method])


REQUESTS = st.lists(
    st.tuples(
        st.sampled_from(
            ["ping", "wait", "wait.result", "fail", "text", "t.none", "t.sub", "no.such", "t.crash", "$/x"]
        ),
        st.sampled_from([None, [], {}, [None], {"minuend": 3, "subtrahend": 1}, [3, 1], {"x": 1}]),
        st.booleans(),
    ),
    max_size=12,
)


@settings(max_examples=30, deadline=None)
@given(REQUESTS, st.sampled_from(["release", "cancel", "exit", "end of input", "shutdown"]), st.booleans())
def test_every_accepted_request_gets_exactly_one_answer(
    requests: list[tuple[str, Any, bool]], how: str, batched: bool
) -> None:
    messages: list[dict[str, Any]] = []
    for id_, (method, params, is_request) in enumerate(requests):
        message: dict[str, Any] = {"jsonrpc": "2.0", "method": method, "params": params}
        messages.append({**message, "id": id_} if is_request else message)
    ids = [message["id"] for message in messages if "id" in message]

    async def play(host: Host, gate: Gate) -> None:
        if batched and messages:
            host.send(messages)
        else:
            host.send(*messages)
        if how == "cancel":
            for id_ in ids:
                host.notify("$/cancelRequest", {"id": id_})
        if how == "exit":
            host.notify("exit")
            return
        if how == "shutdown":
            host.request("shutdown", "shutdown", {"cancel": True})
        host.close()
        while not host.session._input_ended:
            await anyio.sleep(0)
        gate.release()

    received, status = serve(play)
    flat = [one for message in received for one in (message if isinstance(message, list) else [message])]
    answered = [message["id"] for message in flat if "id" in message and message["id"] != "shutdown"]
    assert sorted(answered) == ids
    assert status == (1 if how == "exit" else 0)
