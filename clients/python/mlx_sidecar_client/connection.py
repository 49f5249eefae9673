"""One sidecar process and the conversation with it, from its start to its end."""

from __future__ import annotations

import json
import logging
import os
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from itertools import count
from typing import Any

import anyio
from anyio.abc import ByteReceiveStream, Process
from pydantic_core import from_json

from mlx_sidecar_protocol.envelope import Invalid, Response, parse
from mlx_sidecar_protocol.errors import FrameTooLarge
from mlx_sidecar_protocol.framing import FrameDecoder, FrameFault
from mlx_sidecar_protocol.limits import Limits
from mlx_sidecar_protocol.operations import InitializeResult

from .call import Call
from .errors import SidecarLost

Params = Mapping[str, Any]
OnNotification = Callable[[str, dict[str, Any]], None]

log = logging.getLogger("mlx_sidecar")

_CHUNK_BYTES = 1 << 16
_INCOMING = Limits(frame_bytes=2**31)  # we trust our own child with an answer of any length
_STDERR_LINES = 20  # that a message about a lost sidecar repeats at most
_LAST_WORDS_S = 0.5  # for stderr to end once stdout has: its engine holds it too
_GRACE_S = 5.0  # for the sidecar to leave on its own: it promises a second


class Connection:
    """A running process. ``run`` carries the conversation and returns when the process has ended."""

    def __init__(self, process: Process, on_notification: OnNotification) -> None:
        self._process = process
        self._on_notification = on_notification
        self._ids = count(1)
        self._calls: dict[Any, Call] = {}
        self._streams: dict[Any, Call] = {}
        self._outbox: list[bytes] = []
        self._something_to_write = anyio.Event()
        self._stderr_ended = anyio.Event()
        self._last_words: deque[str] = deque(maxlen=_STDERR_LINES)
        self._lost: SidecarLost | None = None
        self._ended = anyio.Event()
        self.limits = Limits()  # of the sidecar, until it has said its own
        self.initialized: InitializeResult | None = None

    @classmethod
    async def start(
        cls,
        words: Sequence[str],
        on_notification: OnNotification,
        cwd: str | os.PathLike[str] | None = None,
        env: Mapping[str, str] | None = None,
    ) -> Connection:
        """Spawn it. Raises ``OSError`` if that cannot be done."""
        # A session of its own: Ctrl-C in a terminal is for the host to act upon.
        process = await anyio.open_process(list(words), cwd=cwd, env=env, start_new_session=True)
        return cls(process, on_notification)

    async def end(self) -> SidecarLost:
        """Wait until the process has ended, and say how."""
        await self._ended.wait()
        assert self._lost is not None
        return self._lost

    def kill(self) -> None:
        """End it the hard way; harmless if it has ended."""
        if self._process.returncode is None:
            self._process.kill()

    @property
    def has_ended(self) -> bool:
        return self._ended.is_set()

    @property
    def pid(self) -> int:
        return self._process.pid

    async def run(self) -> None:
        """Read and write until the process ends. What is still waiting for an answer then is lost."""
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._write_all)
                tasks.start_soon(self._read_stderr)
                await self._read_stdout()
                with anyio.move_on_after(_LAST_WORDS_S):
                    await self._stderr_ended.wait()
                tasks.cancel_scope.cancel()
        finally:
            await self._bury()

    # For callers.

    def call(self, method: str, params: Params, *, stream: bool = False) -> Call:
        """Send a request. With ``stream`` it gets a name, and deltas.

        Raises:
            TypeError, ValueError: ``params`` are not JSON.
            RpcError: The sidecar could not read them.
            SidecarLost: It has ended.
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
        """Tell the sidecar something; if it has ended, nobody."""
        if self._lost is None:
            self._send({"jsonrpc": "2.0", "method": method, "params": params})

    def cancel(self, call: Call) -> None:
        """Ask for the end of a call. It is answered still."""
        if not call.is_settled:
            self.notify("$/cancelRequest", {"id": call.id})

    async def close(self) -> None:
        """Ask it to end, and see to it that it does."""
        with anyio.move_on_after(_GRACE_S), suppress(SidecarLost):  # lost is what it shall be
            await self.call("shutdown", {"cancel": True}).answer()
            self.notify("exit", {})
            await self._ended.wait()
        self.kill()
        await self._ended.wait()

    # Writing. One task writes, so that a cancelled caller leaves no half of a frame behind.

    def _send(self, message: Mapping[str, Any]) -> None:
        self._outbox.append(self._encode(message) + b"\n")
        self._something_to_write.set()

    def _encode(self, message: Mapping[str, Any]) -> bytes:
        text = json.dumps(message, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        try:
            body = text.encode()
        except UnicodeEncodeError:  # half of a surrogate pair, escaped so that the sidecar can say which field has it
            body = json.dumps(message, separators=(",", ":"), allow_nan=False).encode()
        # The sidecar answers these without an id, which it does not get to read.
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
            return  # its stdout ends too, and that is what we go by

    # Reading.

    async def _read_stdout(self) -> None:
        decoder = FrameDecoder("lines", _INCOMING)
        assert self._process.stdout is not None
        while chunk := await _receive(self._process.stdout):
            for frame in decoder.feed(chunk):
                message = _parsed(frame)
                if message is None:
                    log.error("the sidecar sent something that is no message: %.1000r", frame)
                elif "method" in message:
                    self._take_notification(message["method"], message.get("params"))
                else:
                    self._take_answer(Response(message.get("id"), message.get("result"), message.get("error")))

    def _take_notification(self, method: str, params: Any) -> None:
        if method == "stream/delta":
            call = self._streams.get(params.get("stream")) if isinstance(params, dict) else None
            if call is not None:
                call.add_delta(params)
        else:
            self._on_notification(method, params)

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

    async def _bury(self) -> None:
        with anyio.CancelScope(shield=True):
            # Signals are for a process that lives: asyncio would forget the status of one that does not.
            with anyio.move_on_after(_LAST_WORDS_S):
                await self._process.wait()
            self.kill()
            await self._process.wait()
            await self._process.aclose()
        assert self._process.returncode is not None
        self._end(self._process.returncode)


async def _receive(stream: ByteReceiveStream) -> bytes:
    """The next bytes, none at the end."""
    try:
        return bytes(await stream.receive(_CHUNK_BYTES))
    except (anyio.EndOfStream, anyio.ClosedResourceError, anyio.BrokenResourceError):
        return b""


def _parsed(frame: bytes | FrameFault) -> dict[str, Any] | None:
    """The message, if it is one. Our own child is not asked for more than that."""
    if isinstance(frame, FrameFault):
        return None
    try:
        message = from_json(frame)
    except ValueError:
        return None
    return message if isinstance(message, dict) else None
