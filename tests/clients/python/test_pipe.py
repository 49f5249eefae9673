"""The pipe that asyncio's event loop reads without a task, and what a connection makes of its bytes."""

from __future__ import annotations

import asyncio
import json
import os
from typing import Any, cast

import anyio
import pytest
from anyio.abc import Process
from hypothesis import given
from hypothesis import strategies as st

from mlx_sidecar_client.connection import Connection
from mlx_sidecar_client.pipe import ReadPipe

from .support import PATIENCE_S


class _NoProcess:
    """A process whose stdout is a pipe of the test."""

    stdout = None


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
        connection = Connection(cast("Process", _NoProcess()), hear, pipe)
        connection._send = lambda _: None  # type: ignore[method-assign]  # there is nobody at the other end
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
