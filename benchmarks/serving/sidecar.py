"""Ours: ``mlx-sidecar serve`` over pipes, one JSON text to a line, every delta read and parsed."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path
from typing import Any

from .contender import Contender
from .processes import LineProcess
from .request import ContenderFailed, Flight, Request

Frame = dict[str, Any]
SERVE = (sys.executable, "-P", "-m", "mlx_sidecar", "serve", "--framing", "lines")
_CANCELLED = -32800  # before it started


class Connection:
    """JSON-RPC to a sidecar of its own, started by ``command``.

    ``hear`` gets every frame of the sidecar, answers included, and its time.
    """

    def __init__(
        self, hear: Callable[[Frame, float], None], lost: Callable[[str], None], command: Sequence[str] = SERVE
    ) -> None:
        self._command = command
        self._ids = count(1)
        self._answers: dict[int, asyncio.Future[Frame]] = {}
        self._hear = hear
        self._lost = lost
        self._ended: str | None = None
        self._process = LineProcess(self._receive, self._gone)

    async def open(self, *options: str) -> Frame:
        """Start the sidecar, and return the answer to ``initialize``."""
        await self._process.start(*self._command, *options)
        hello = {"protocol_version": 1, "client": {"name": "benchmarks", "version": "1"}}
        answer = await self.call("initialize", hello)
        self.notify("initialized", {})
        return answer

    async def close(self) -> None:
        await self._process.stop()

    @property
    def pid(self) -> int:
        return self._process.pid

    def read(self, going_on: bool) -> None:
        """Stop reading the sidecar's frames, or go on."""
        self._process.read(going_on)

    def send(self, method: str, params: Frame) -> int:
        """Write a request; its answer goes to ``hear`` only."""
        id_ = next(self._ids)
        self._process.send({"jsonrpc": "2.0", "id": id_, "method": method, "params": params})
        return id_

    def notify(self, method: str, params: Frame) -> None:
        self._process.send({"jsonrpc": "2.0", "method": method, "params": params})

    async def answer(self, method: str, params: Frame) -> Frame:
        """Return the answer, also an error. Raises ContenderFailed if none comes."""
        if self._ended is not None:
            raise ContenderFailed(self._ended)
        answer: asyncio.Future[Frame] = asyncio.get_running_loop().create_future()
        self._answers[self.send(method, params)] = answer
        return await answer

    async def call(self, method: str, params: Frame) -> Frame:
        """Return the result. Raises ContenderFailed if the answer is an error, or none comes."""
        frame = await self.answer(method, params)
        if "error" in frame:
            raise ContenderFailed(f"{method}: {frame['error']}")
        result: Frame = frame["result"]
        return result

    def _receive(self, frame: Frame, at_s: float) -> None:
        if "method" not in frame and (answer := self._answers.pop(frame["id"], None)) is not None:
            if not answer.done():  # else the caller has stopped waiting
                answer.set_result(frame)
        else:
            self._hear(frame, at_s)

    def _gone(self, why: str) -> None:
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(ContenderFailed(why))
        self._answers.clear()
        self._ended = why
        self._lost(why)


class Sidecar(Contender):
    """Ours. ``options`` are those of ``mlx-sidecar serve``; ``model`` is a directory, or a name it knows.

    ``command`` starts another ``mlx-sidecar serve`` than that of this checkout.
    """

    name = "ours over pipes"

    def __init__(self, model: Path | str, *options: str, command: Sequence[str] = SERVE) -> None:
        self._model = str(model)
        self._options = options
        self._streams: dict[int, Flight] = {}
        self._requests: dict[int, int] = {}  # the stream of each request that is open
        self._names = count(1)
        self.connection = Connection(self._hear, self._fail_all, command)

    async def open(self) -> None:
        await self.connection.open(*self._options)
        await self.connection.call("load", {"model": self._model})

    async def close(self) -> None:
        await self.connection.close()

    def start(self, request: Request) -> Flight:
        stream = next(self._names)
        # The answer need not repeat the deltas.
        params = {"model": self._model, "stream": stream, "echo_text": False, "max_tokens": request.max_tokens}
        if request.chat:
            params["messages"] = [{"role": "user", "content": request.text}]
        else:
            params["tokens"] = request.tokens
        if request.seed is not None:
            params["seed"] = request.seed
        flight = self._streams[stream] = Flight(request)
        self._requests[self.connection.send("generate", {**params, **request.settings})] = stream
        return flight

    def cancel(self, flight: Flight) -> None:
        id_ = next((id_ for id_, stream in self._requests.items() if self._streams[stream] is flight), None)
        if id_ is not None:  # else its answer is there
            self.connection.notify("$/cancelRequest", {"id": id_})

    def _hear(self, frame: Frame, at_s: float) -> None:
        if "method" not in frame:
            self._answered(self._streams.pop(self._requests.pop(frame["id"])), frame, at_s)
        elif frame["method"] == "stream/delta":
            delta = frame["params"]
            flight = self._streams[delta["stream"]]
            flight.tokens += delta["tokens"]
            flight.hear(at_s, len(delta["tokens"]))

    @staticmethod
    def _answered(flight: Flight, frame: Frame, at_s: float) -> None:
        if "result" in frame:
            result = frame["result"]
            flight.end(at_s, result["finish_reason"], result["usage"]["completion_tokens"])
        elif frame["error"]["code"] == _CANCELLED:
            flight.end(at_s, "cancelled", 0)
        else:
            flight.fail(f"generate: {frame['error']}")

    def _fail_all(self, why: str) -> None:
        for flight in self._streams.values():
            flight.fail(why)
        self._streams.clear()
        self._requests.clear()
