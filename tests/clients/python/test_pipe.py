"""The pipe that asyncio's event loop reads without a task, and what a connection makes of its bytes."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from itertools import count
from typing import Any, cast

import anyio
import pytest
from anyio.abc import Process
from hypothesis import given
from hypothesis import strategies as st

from mlx_sidecar_client import SidecarLost
from mlx_sidecar_client.call import Call
from mlx_sidecar_client.connection import Connection
from mlx_sidecar_client.pipe import ReadPipe
from mlx_sidecar_client.stream import Stream

from .support import PATIENCE_S


class _NoProcess:
    """A process whose stdout is a pipe of the test."""

    stdout = None


class _Alone(Connection):
    """A connection that sends nothing, because nobody is at the other end."""

    def _send(self, message: Mapping[str, Any]) -> None:
        pass


def _messages(kinds: list[int]) -> list[dict[str, Any]]:
    """A delta of one of two streams for each 0 and 1, another notification for each 2."""
    return [
        {"method": "note", "params": {"n": n}}
        if kind == 2
        else {"method": "stream/delta", "params": {"stream": f"s{kind + 1}", "seq": n, "text": "", "tokens": []}}
        for n, kind in enumerate(kinds)
    ]


@given(kinds=st.lists(st.integers(0, 2), max_size=30), cuts=st.lists(st.integers(1, 200), max_size=40))
def test_messages_in_any_pieces_are_taken_once_and_in_their_order(kinds: list[int], cuts: list[int]) -> None:
    data = b"".join(json.dumps(message).encode() + b"\n" for message in _messages(kinds))
    seen: list[int] = []

    def hear(_: str, params: dict[str, Any]) -> None:
        assert asyncio.current_task() is not None, "callbacks of a host run in a task"
        seen.append(params["n"])

    async def read() -> None:
        pipe = ReadPipe()
        connection = _Alone(cast("Process", _NoProcess()), hear, pipe)
        async with anyio.create_task_group() as tasks:
            for _ in range(2):
                call = connection.call("generate", {}, stream=True)
                tasks.start_soon(call.wait_for_news, lambda call=call: _take(call.deltas, seen))
            await anyio.lowlevel.checkpoint()
            tasks.start_soon(connection._read_stdout)
            rest = data
            for cut in [*cuts, len(data)]:
                os.write(pipe.write_end, rest[:cut])
                rest = rest[cut:]
                await anyio.lowlevel.checkpoint()
            os.close(pipe.write_end)
            with anyio.fail_after(PATIENCE_S):
                while len(seen) < len(kinds):
                    await anyio.lowlevel.checkpoint()
            tasks.cancel_scope.cancel()
        pipe.close()

    anyio.run(read)
    for kind in range(3):
        of_kind = [n for n in seen if kinds[n] == kind]
        assert of_kind == [n for n, each in enumerate(kinds) if each == kind]


def _take(deltas: Any, seen: list[int]) -> bool:
    seen.extend(delta["seq"] for delta in deltas)
    deltas.clear()
    return True


class _Wire:
    """A connection with one call, of which the test plays the sidecar."""

    def __init__(self) -> None:
        self.one = Call(1, "s1")

    def call(self, method: str, params: Mapping[str, Any], *, stream: bool = False) -> Call:
        assert (method, stream) == ("generate", True), params
        return self.one

    def notify(self, method: str, params: Mapping[str, Any]) -> None:
        pass

    def cancel(self, call: Call) -> None:
        pass


@given(reads=st.lists(st.tuples(st.integers(1, 3), st.booleans(), st.booleans()), max_size=20))
def test_each_delta_comes_once_whenever_it_is_read_and_whether_it_is_taken_or_not(
    reads: list[tuple[int, bool, bool]],
) -> None:
    """A read has some deltas; they are taken or not; then the reader of the stream runs, or the next read is first."""
    seen: list[int] = []
    takes = True

    def pass_on(deltas: list[dict[str, Any]]) -> bool:
        if takes:
            seen.extend(delta["seq"] for delta in deltas)
        return takes

    async def carry(stream: Stream[Any]) -> None:
        with suppress(SidecarLost):
            while True:
                seen.extend([delta["seq"] for delta in await stream.take_plain(pass_on)])

    async def play() -> None:
        nonlocal takes
        wire, numbers = _Wire(), count()

        async def connect() -> _Wire:
            return wire

        def read(deltas: int) -> None:
            wire.one.deltas.extend({"text": "x", "tokens": [0], "seq": next(numbers)} for _ in range(deltas))
            wire.one.tell_of_deltas()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(carry, Stream(connect, {}))
            await anyio.wait_all_tasks_blocked()
            for deltas, is_taken, runs in reads:
                takes = is_taken
                read(deltas)
                if runs:
                    await anyio.wait_all_tasks_blocked()
            read(1)
            wire.one.settle(SidecarLost("it ended", exit_status=1))

    anyio.run(play)
    assert seen == list(range(sum(deltas for deltas, _, _ in reads) + 1))


def test_an_exception_of_the_reader_is_raised_where_the_pipe_is_read() -> None:
    async def read() -> None:
        pipe = ReadPipe()
        os.write(pipe.write_end, b"x")

        def fail(_: bytes) -> bool:
            raise ZeroDivisionError

        try:
            await pipe.read(fail, lambda: None)
        finally:
            os.close(pipe.write_end)
            pipe.close()

    with pytest.raises(ZeroDivisionError):
        anyio.run(read)
