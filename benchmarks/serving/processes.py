"""A child process that speaks lines of JSON, and one that speaks HTTP."""

from __future__ import annotations

import asyncio
import json
import socket
import tempfile
import time
from collections.abc import Callable
from typing import IO, Any

_READY_S = 120.0  # a model is loaded in that time, or never


class LineProcess(asyncio.SubprocessProtocol):
    """Calls ``hear`` with each line of the child's stdout, parsed, and its time; calls ``lost`` when it ends."""

    def __init__(self, hear: Callable[[dict[str, Any], float], None], lost: Callable[[str], None]) -> None:
        self._hear = hear
        self._lost = lost
        self._rest = b""
        self._ended = asyncio.Event()
        self._transport: asyncio.SubprocessTransport

    async def start(self, *command: str) -> None:
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.subprocess_exec(lambda: self, *command, stderr=None)

    @property
    def pid(self) -> int:
        pid = self._transport.get_pid()
        assert pid is not None
        return pid

    def send(self, frame: dict[str, Any]) -> None:
        self._stdin().write(json.dumps(frame).encode() + b"\n")

    def read(self, going_on: bool) -> None:
        """Stop reading its stdout, or go on with it."""
        pipe = self._transport.get_pipe_transport(1)
        assert isinstance(pipe, asyncio.ReadTransport)
        if going_on:
            pipe.resume_reading()
        else:
            pipe.pause_reading()

    async def stop(self) -> None:
        """Close the child's stdin and wait for its end."""
        self._lost = lambda _: None
        self._stdin().close()
        await self._ended.wait()
        self._transport.close()

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        now = time.monotonic()
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._hear(json.loads(line), now)

    def process_exited(self) -> None:
        self._ended.set()
        self._lost(f"the process ended with status {self._transport.get_returncode()}")

    def _stdin(self) -> asyncio.WriteTransport:
        pipe = self._transport.get_pipe_transport(0)
        assert isinstance(pipe, asyncio.WriteTransport)
        return pipe


class HttpProcess:
    """A server on a given port; its log is kept for the message if it does not come up."""

    def __init__(self) -> None:
        self.port = _free_port()
        self._process: asyncio.subprocess.Process

    async def start(self, *command: str) -> None:
        """Return when GET /health answers 200. Raises RuntimeError if the server ends before, or takes too long."""
        with tempfile.TemporaryFile() as log:  # the child has its own handle of it
            self._process = await self._spawn(command, log)
            deadline_s = time.monotonic() + _READY_S
            while not await self._healthy():
                if self._process.returncode is not None or time.monotonic() > deadline_s:
                    await self.stop()
                    log.seek(0)
                    raise RuntimeError(f"{command[0]} did not start:\n{log.read().decode()[-2000:]}")
                await asyncio.sleep(0.1)

    async def _spawn(self, command: tuple[str, ...], log: IO[bytes]) -> asyncio.subprocess.Process:
        # A pipe without data: a child that watches it notices our end.
        stdin = asyncio.subprocess.PIPE
        return await asyncio.create_subprocess_exec(*command, stdin=stdin, stdout=log, stderr=log)

    async def stop(self) -> None:
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()

    async def _healthy(self) -> bool:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            return False
        writer.write(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        status = await reader.readline()
        writer.close()
        return b" 200 " in status


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
