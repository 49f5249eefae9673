"""Servers that speak OpenAI's completions over HTTP with server-sent events: ``mlx_lm.server`` and ``llama-server``.

python -m benchmarks.serving.http_servers FOLDER PORT    mlx_lm.server with our BLAS
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
import threading
import time
from abc import abstractmethod
from pathlib import Path
from typing import Any, ClassVar

from .contender import Contender
from .processes import HttpProcess
from .request import Flight, Request
from .sse import ChunkedBody, EventStream

_PIECE_BYTES = 1 << 16


class HttpContender(Contender):
    """One connection for each request, as these servers' clients do. To cancel is to close the connection."""

    extra: ClassVar[dict[str, Any]] = {}  # members of each request's body

    def __init__(self, model: Path) -> None:
        self._model = model
        self._process = HttpProcess()
        self._tasks: dict[Flight, asyncio.Task[None]] = {}

    @abstractmethod
    def command(self) -> list[str]: ...

    async def open(self) -> None:
        await self._process.start(*self.command())

    async def close(self) -> None:
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        await self._process.stop()

    def start(self, request: Request) -> Flight:
        flight = Flight(request)
        task = self._tasks[flight] = asyncio.create_task(self._fly(flight))
        task.add_done_callback(lambda _: self._tasks.pop(flight))
        return flight

    def cancel(self, flight: Flight) -> None:
        if flight in self._tasks:
            self._tasks[flight].cancel()

    async def _fly(self, flight: Flight) -> None:
        try:
            await self._exchange(flight)
        except asyncio.CancelledError:
            flight.end(time.monotonic(), "cancelled", sum(tokens for _, tokens in flight.deltas))
        except (OSError, EOFError, ValueError) as error:
            flight.fail(f"{self.name}: {type(error).__name__}: {error}")

    async def _exchange(self, flight: Flight) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._process.port)
        try:
            path, body = _body(flight.request, self.extra)
            writer.write(_head(path, len(body)) + body)
            decode = await _response(reader)
            events = EventStream()
            while data := await reader.read(_PIECE_BYTES):
                now = time.monotonic()
                for event in events.feed(decode.feed(data) if decode is not None else data):
                    _hear(flight, event, now)
        finally:
            writer.close()
        if flight.finish is None:
            raise EOFError("the stream ended before [DONE]")
        flight.end(flight.ended_s, flight.finish, flight.completion_tokens)


def _body(request: Request, extra: dict[str, Any]) -> tuple[str, bytes]:
    body: dict[str, Any] = {"stream": True, "stream_options": {"include_usage": True}, "max_tokens": request.max_tokens}
    body |= request.settings | extra
    if request.seed is not None:
        body["seed"] = request.seed
    if request.chat:
        body["messages"] = [{"role": "user", "content": request.text}]
        return "/v1/chat/completions", json.dumps(body).encode()
    body["prompt"] = request.text
    return "/v1/completions", json.dumps(body).encode()


def _head(path: str, length: int) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", "Content-Type: application/json", f"Content-Length: {length}"]
    return "\r\n".join([*lines, "Connection: close", "", ""]).encode()


async def _response(reader: asyncio.StreamReader) -> ChunkedBody | None:
    """Read an answer's head, and return a decoder of its body if chunked. Raises ValueError unless it is a 200."""
    head = await reader.readuntil(b"\r\n\r\n")
    status, *fields = head.decode("latin-1").split("\r\n")
    if status.split()[1] != "200":
        raise ValueError(f"{status}: {(await reader.read(2000)).decode(errors='replace')}")
    chunked = any(field.lower().replace(" ", "") == "transfer-encoding:chunked" for field in fields)
    return ChunkedBody() if chunked else None


def _hear(flight: Flight, event: str, now: float) -> None:
    """Take one event: a text is one token, or the last of several whose text was held back; the usage counts."""
    if event == "[DONE]":
        flight.ended_s = now
        return
    frame = json.loads(event)
    if "error" in frame:
        raise ValueError(str(frame["error"]))
    if (usage := frame.get("usage")) is not None:
        flight.completion_tokens = usage["completion_tokens"]
    for choice in frame["choices"]:
        delta = choice.get("delta") or {}
        if any((choice.get("text"), delta.get("content"), delta.get("reasoning"), delta.get("reasoning_content"))):
            flight.hear(now, 1)
        flight.finish = choice.get("finish_reason") or flight.finish


class MlxLmServer(HttpContender):
    """``mlx_lm.server`` with its defaults; ours is the BLAS only."""

    name = "mlx_lm.server"

    def command(self) -> list[str]:
        return [sys.executable, "-m", "benchmarks.serving.http_servers", str(self._model), str(self._process.port)]


class LlamaServer(HttpContender):
    """llama.cpp's server, one thread like the others, float32 weights, a place for each of 32 streams."""

    name = "llama.cpp"
    extra: ClassVar[dict[str, Any]] = {"ignore_eos": True, "cache_prompt": False}

    def command(self) -> list[str]:
        from .gguf_model import convert

        places, room = 32, 2048
        options = ["--host", "127.0.0.1", "--port", str(self._process.port), "--jinja", "--no-webui"]
        options += ["--parallel", str(places), "--ctx-size", str(places * room), "--threads", "1"]
        return ["llama-server", "--model", str(convert(self._model)), "--threads-batch", "1", *options]

    @staticmethod
    def missing() -> str | None:
        """Return the program that it needs and that is not installed; None if it can run."""
        return None if shutil.which("llama-server") else "not installed: no llama-server on PATH"


def serve(folder: str, port: str, *options: str) -> None:
    from mlx_sidecar.engine.execution.blas import preload

    preload("fast")
    threading.Thread(target=_end_with_parent, daemon=True).start()
    from mlx_lm.server import main

    sys.argv = ["mlx_lm.server", "--model", folder, "--port", port, "--log-level", "WARNING", *options]
    main()


def _end_with_parent() -> None:
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    serve(*sys.argv[1:])
