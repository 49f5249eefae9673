"""A connection is one sidecar process and the conversation with it, from start to end."""

from __future__ import annotations

import json
import logging
import os
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from itertools import count
from subprocess import PIPE
from typing import Any

import anyio
from anyio.abc import ByteReceiveStream, Process
from pydantic_core import from_json

from .call import Call
from .errors import SidecarLost
from .pipe import ReadPipe, is_asyncio
from .protocol.envelope import Invalid, Response, parse
from .protocol.errors import FrameTooLarge
from .protocol.framing import FrameDecoder, FrameFault
from .protocol.limits import Limits
from .protocol.operations import InitializeResult

Params = Mapping[str, Any]
OnNotification = Callable[[str, dict[str, Any]], None]

log = logging.getLogger("mlx_sidecar")

_CHUNK_BYTES = 1 << 16
_INCOMING = Limits(frame_bytes=2**31)  # our own child is trusted with answers of any length
_STDERR_LINES = 20  # last lines of stderr in the message about a lost sidecar
_LAST_WORDS_S = 0.5  # for stderr to end after stdout, since its engine holds it too
_GRACE_S = 5.0  # for the sidecar to leave on its own; it promises 1 s


class Connection:
    """A running sidecar process; ``run`` carries the conversation and returns when the process has ended."""

    def __init__(self, process: Process, on_notification: OnNotification, pipe: ReadPipe | None = None) -> None:
        """``pipe`` is the process's stdout, unless the process itself has it."""
        self._process = process
        self._pipe = pipe
        self._decoder = FrameDecoder("lines", _INCOMING)
        self._waiting: list[dict[str, Any]] = []  # messages for the reading task
        self._on_notification = on_notification
        self._ids = count(1)
        self._calls: dict[Any, Call] = {}
        self._streams: dict[Any, Call] = {}
        self._refreshed: list[Call] = []  # those with deltas of the present read
        self._outbox: list[bytes] = []
        self._something_to_write = anyio.Event()
        self._stderr_ended = anyio.Event()
        self._last_words: deque[str] = deque(maxlen=_STDERR_LINES)
        self._lost: SidecarLost | None = None
        self._ended = anyio.Event()
        self.limits = Limits()  # of the sidecar; its defaults until ``initialize`` is answered
        self.initialized: InitializeResult | None = None

    @classmethod
    async def start(
        cls,
        words: Sequence[str],
        on_notification: OnNotification,
        cwd: str | os.PathLike[str] | None = None,
        env: Mapping[str, str] | None = None,
    ) -> Connection:
        """Spawn a sidecar. Raises ``OSError`` if that fails."""
        # A session of its own, because Ctrl-C in a terminal is for the host.
        pipe = ReadPipe() if is_asyncio() else None
        stdout = PIPE if pipe is None else pipe.write_end
        try:
            process = await anyio.open_process(list(words), cwd=cwd, env=env, stdout=stdout, start_new_session=True)
        except BaseException:
            if pipe is not None:
                pipe.close()
            raise
        finally:
            if pipe is not None:
                os.close(pipe.write_end)
        return cls(process, on_notification, pipe)

    async def end(self) -> SidecarLost:
        """Wait for the end of the process; returns how it ended."""
        await self._ended.wait()
        assert self._lost is not None
        return self._lost

    def kill(self) -> None:
        """Kill the process; harmless if it has ended."""
        if self._process.returncode is None:
            self._process.kill()

    @property
    def has_ended(self) -> bool:
        return self._ended.is_set()

    @property
    def pid(self) -> int:
        return self._process.pid

    async def run(self) -> None:
        """Read and write until the process ends; calls without an answer are then lost."""
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._write_all)
                tasks.start_soon(self._read_stderr)
                await self._read_stdout()
                with anyio.move_on_after(_LAST_WORDS_S):
                    await self._stderr_ended.wait()
                tasks.cancel_scope.cancel()
        finally:
            await self._wait_ended()

    # For callers.

    def call(self, method: str, params: Params, *, stream: bool = False) -> Call:
        """Send a request. With ``stream`` it gets a stream name, and deltas.

        Raises:
            TypeError, ValueError: ``params`` are not JSON.
            RpcError: The sidecar would refuse them unread, e.g. as too long.
            SidecarLost: The sidecar has ended.
        """
        if self._lost is not None:
            raise self._lost.anew()
        call = Call(next(self._ids), None)
        if stream:
            call.stream = f"s{call.id}"
            params = {**params, "stream": call.stream}
        self._send({"jsonrpc": "2.0", "id": call.id, "method": method, "params": params})
        self._calls[call.id] = call
        if call.stream is not None:
            self._streams[call.stream] = call
        return call

    def notify(self, method: str, params: Params) -> None:
        """Send a notification; does nothing if the sidecar has ended."""
        if self._lost is None:
            self._send({"jsonrpc": "2.0", "method": method, "params": params})

    def cancel(self, call: Call) -> None:
        """Ask the sidecar to cancel a call, which is still answered."""
        if not call.is_settled:
            self.notify("$/cancelRequest", {"id": call.id})

    async def close(self) -> None:
        """Ask the sidecar to end, and kill it after ``_GRACE_S``."""
        with anyio.move_on_after(_GRACE_S), suppress(SidecarLost):  # its loss is intended
            await self.call("shutdown", {"cancel": True}).answer()
            self.notify("exit", {})
            await self._ended.wait()
        self.kill()
        await self._ended.wait()

    # Writing. One task writes, so that a cancelled caller leaves no partial frame behind.

    def _send(self, message: Mapping[str, Any]) -> None:
        self._outbox.append(self._encode(message) + b"\n")
        self._something_to_write.set()

    def _encode(self, message: Mapping[str, Any]) -> bytes:
        text = json.dumps(message, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        try:
            body = text.encode()
        except UnicodeEncodeError:  # a lone surrogate, escaped so that the sidecar can name the field that has it
            body = json.dumps(message, separators=(",", ":"), allow_nan=False).encode()
        # Refused here, because the sidecar would answer without an id, which it does not read.
        if len(body) > self.limits.frame_bytes:
            raise FrameTooLarge(limit_bytes=self.limits.frame_bytes)
        if body.count(b"[") + body.count(b"{") > self.limits.nesting:
            read = parse(body, self.limits)
            if isinstance(read, Invalid) and read.id is None:
                raise read.error
        return body

    async def _write_all(self) -> None:
        assert self._process.stdin is not None
        try:
            while True:
                await self._something_to_write.wait()
                self._something_to_write = anyio.Event()
                data, self._outbox = b"".join(self._outbox), []
                await self._process.stdin.send(data)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            return  # its stdout ends too, which is handled there

    # Reading.

    async def _read_stdout(self) -> None:
        if self._pipe is not None:
            await self._pipe.read(self._take_deltas_of, self._take_waiting)
            return
        assert self._process.stdout is not None
        while chunk := await _receive(self._process.stdout):
            self._take_deltas_of(chunk)
            self._take_waiting()

    def _take_deltas_of(self, chunk: bytes) -> bool:
        """Take the deltas that ``chunk`` completes, up to the first other message; returns whether messages wait."""
        # The others wait for the reading task, because they may call back into the host, which expects a task.
        for frame in self._decoder.feed(chunk):
            message = _parsed(frame)
            if message is None:
                log.error("the sidecar sent something that is no message: %.1000r", frame)
            elif self._waiting or message.get("method") != "stream/delta":
                self._waiting.append(message)
            else:
                self._take_delta(message.get("params"))
        self._tell_of_deltas()
        return bool(self._waiting)

    def _take_waiting(self) -> None:
        waiting, self._waiting = self._waiting, []
        for message in waiting:
            method, params = message.get("method"), message.get("params", {})
            if method == "stream/delta":
                self._take_delta(params)
            elif method is not None:
                self._on_notification(method, params)
            else:
                self._take_answer(Response(message.get("id"), message.get("result"), message.get("error")))
        self._tell_of_deltas()

    def _take_delta(self, params: Any) -> None:
        call = self._streams.get(params.get("stream")) if isinstance(params, dict) else None
        if call is not None:
            if not call.deltas:  # else it has been told, or is in the list
                self._refreshed.append(call)
            call.deltas.append(params)

    def _tell_of_deltas(self) -> None:
        """Tell each stream once of all that one read brought it."""
        refreshed, self._refreshed = self._refreshed, []
        for call in refreshed:
            call.tell_of_deltas()

    def _take_answer(self, answer: Response) -> None:
        call = self._calls.pop(answer.id, None) if isinstance(answer.id, int) else None
        if call is None:
            log.error("an answer that belongs to no request: id %.100r, error %.1000r", answer.id, answer.error)
            return
        self._streams.pop(call.stream, None)
        call.settle(answer)

    async def _read_stderr(self) -> None:
        assert self._process.stderr is not None
        rest = b""
        while chunk := await _receive(self._process.stderr):
            *lines, rest = (rest + chunk).split(b"\n")
            if len(rest) > _CHUNK_BYTES:
                lines, rest = [*lines, rest], b""
            for line in lines:
                self._take_stderr(line)
        self._take_stderr(rest)
        self._stderr_ended.set()

    def _take_stderr(self, line: bytes) -> None:
        text = line.decode(errors="replace").rstrip()
        if text:
            self._last_words.append(text)
            log.getChild("stderr").warning("%s", text)

    # The end.

    def _end(self, status: int) -> None:
        how = f"ended by signal {-status}" if status < 0 else f"exited with status {status}"
        words = "\n".join(self._last_words)
        self._lost = SidecarLost(
            f"the sidecar {how}" + (f"; its last words:\n{words}" if words else ""), exit_status=status
        )
        calls, self._calls = self._calls, {}
        self._streams.clear()
        for call in calls.values():
            call.settle(self._lost)
        self._ended.set()

    async def _wait_ended(self) -> None:
        with anyio.CancelScope(shield=True):
            # Not killed at once, because asyncio would forget the status of a process that has ended already.
            with anyio.move_on_after(_LAST_WORDS_S):
                await self._process.wait()
            self.kill()
            await self._process.wait()
            await self._process.aclose()
            if self._pipe is not None:
                self._pipe.close()
        assert self._process.returncode is not None
        self._end(self._process.returncode)


async def _receive(stream: ByteReceiveStream) -> bytes:
    """The next bytes; b"" at the end."""
    try:
        return bytes(await stream.receive(_CHUNK_BYTES))
    except (anyio.EndOfStream, anyio.ClosedResourceError, anyio.BrokenResourceError):
        return b""


def _parsed(frame: bytes | FrameFault) -> dict[str, Any] | None:
    """The message in ``frame``, or None; no more is checked, because it comes from our own child."""
    if isinstance(frame, FrameFault):
        return None
    try:
        message = from_json(frame)
    except ValueError:
        return None
    return message if isinstance(message, dict) else None
