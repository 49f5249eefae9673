"""Upstreams that answer as a test says: real HTTP servers on this machine, of both interfaces."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Literal

import anyio
from anyio.abc import SocketAttribute, SocketStream

Kind = Literal["openai", "anthropic"]
Behave = Callable[["Connection"], Awaitable[None]]

REASONING, TEXT, CALL = "why", "Hi to you!", ("f", '{"a": 12}')


@dataclass
class Asked:
    """A request that an upstream has got."""

    path: str
    headers: dict[str, str]
    body: Any


@dataclass
class Connection:
    """A request, and the stream that its answer goes to."""

    asked: Asked
    stream: SocketStream

    async def head(
        self, status: int = 200, type_: str = "text/event-stream", headers: Mapping[str, str] | None = None
    ) -> None:
        lines = [f"HTTP/1.1 {status} Status", f"content-type: {type_}", "connection: close"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in (headers or {}).items()]
        await self.stream.send("\r\n".join([*lines, "", ""]).encode())

    async def gone(self) -> None:
        """Return when the client has left."""
        with suppress(anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
            while True:
                await self.stream.receive()


@dataclass
class Upstream:
    """A running one; ``behave`` answers each request, and may be changed. ``keeps``: connections are for several."""

    kind: Kind
    port: int
    behave: Behave
    keeps: bool = False
    connections: int = 0
    asked: list[Asked] = field(default_factory=list)

    @property
    def entry(self) -> str:
        """Its members in a table, but for what a test adds."""
        base = f"http://127.0.0.1:{self.port}" + ("/v1" if self.kind == "openai" else "")
        return f"kind: {self.kind}, base_url: '{base}'"

    @property
    def answers(self) -> list[Asked]:
        """The requests for answers, without those of probes."""
        return [each for each in self.asked if each.body is not None]

    async def serve(self, stream: SocketStream) -> None:
        self.connections += 1
        async with stream:
            with suppress(anyio.EndOfStream, anyio.BrokenResourceError):
                await self._answer(stream)
                while self.keeps:
                    await self._answer(stream)

    async def _answer(self, stream: SocketStream) -> None:
        received = b""
        while b"\r\n\r\n" not in received:
            received += await stream.receive()
        head, _, body = received.partition(b"\r\n\r\n")
        line, *lines = head.decode().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (each.partition(":") for each in lines)}
        while len(body) < int(headers.get("content-length", 0)):
            body += await stream.receive()
        asked = Asked(line.split()[1], headers, json.loads(body) if body else None)
        self.asked.append(asked)
        await self.behave(Connection(asked, stream))


@asynccontextmanager
async def upstream(kind: Kind, behave: Behave) -> AsyncIterator[Upstream]:
    """An upstream in this event loop."""
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port = listener.extra(SocketAttribute.local_port)
    made = Upstream(kind, port, behave)
    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, made.serve)
        yield made
        tasks.cancel_scope.cancel()


# Answers.


def openai_events(calls: bool = True, text: str = TEXT, usage: bool = True) -> list[bytes]:
    """A whole answer of OpenAI's interface, event by event."""
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": None}]
    deltas += [{"reasoning_content": part} for part in _parts(REASONING)]
    deltas += [{"content": part} for part in _parts(text)]
    if calls:
        name, arguments = CALL
        deltas.append({"tool_calls": [{"index": 0, "id": "c1", "type": "function", "function": {"name": name}}]})
        deltas += [{"tool_calls": [{"index": 0, "function": {"arguments": part}}]} for part in _parts(arguments)]
    chunks: list[Any] = [{"choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
    chunks.append({"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls" if calls else "stop"}]})
    if usage:
        details = {"prompt_tokens_details": {"cached_tokens": 4}, "completion_tokens_details": {"reasoning_tokens": 3}}
        chunks.append({"choices": [], "usage": {"prompt_tokens": 11, "completion_tokens": 7, **details}})
    return [*(b"data: %b\n\n" % json.dumps(chunk).encode() for chunk in chunks), b"data: [DONE]\n\n"]


def anthropic_events(calls: bool = True, text: str = TEXT, usage: bool = True) -> list[bytes]:
    """A whole answer of Anthropic's interface, event by event."""
    started = {"input_tokens": 7, "cache_read_input_tokens": 4, "output_tokens": 1} if usage else {}
    events: list[dict[str, Any]] = [{"type": "message_start", "message": {"role": "assistant", "usage": started}}]
    events.append({"type": "ping"})
    blocks: list[tuple[dict[str, Any], list[dict[str, Any]]]] = [
        (
            {"type": "thinking", "thinking": ""},
            [{"type": "thinking_delta", "thinking": part} for part in _parts(REASONING)],
        ),
        ({"type": "text", "text": ""}, [{"type": "text_delta", "text": part} for part in _parts(text)]),
    ]
    if calls:
        name, arguments = CALL
        deltas = [{"type": "input_json_delta", "partial_json": part} for part in _parts(arguments)]
        blocks.append(({"type": "tool_use", "id": "c1", "name": name, "input": {}}, deltas))
    for index, (block, more) in enumerate(blocks):
        events.append({"type": "content_block_start", "index": index, "content_block": block})
        events += [{"type": "content_block_delta", "index": index, "delta": delta} for delta in more]
        events.append({"type": "content_block_stop", "index": index})
    stop = {"stop_reason": "tool_use" if calls else "end_turn", "stop_sequence": None}
    events.append({"type": "message_delta", "delta": stop, "usage": {"output_tokens": 7} if usage else {}})
    events.append({"type": "message_stop"})
    return [b"event: %b\ndata: %b\n\n" % (each["type"].encode(), json.dumps(each).encode()) for each in events]


EVENTS = {"openai": openai_events, "anthropic": anthropic_events}


def _parts(text: str) -> list[str]:
    return [text[:2], text[2:]]


def events_of(connection: Connection) -> list[bytes]:
    """The whole answer to a request: with a call if it has tools."""
    kind: Kind = "openai" if connection.asked.path.endswith("/chat/completions") else "anthropic"
    return EVENTS[kind](calls="tools" in connection.asked.body)


# Behaviours.


async def whole(connection: Connection) -> None:
    """A whole answer."""
    if connection.asked.body is None:
        await connection.head(200, "application/json")
        return
    await connection.head()
    for event in events_of(connection):
        await connection.stream.send(event)


def refusing(status: int, message: str = "no", code: str = "", **headers: str) -> Behave:
    """An error status."""

    async def behave(connection: Connection) -> None:
        await connection.head(status, "application/json", headers)
        await connection.stream.send(json.dumps({"error": {"message": message, "code": code}}).encode())

    return behave


async def cut_off(connection: Connection) -> None:
    """The connection ends before a response."""


async def hung_at_once(connection: Connection) -> None:
    """Nothing ever comes."""
    await connection.gone()


async def hung_behind_its_head(connection: Connection) -> None:
    """The headers come, then comments alone, then nothing."""
    await connection.head()
    await connection.stream.send(b": ping\n\n")
    await connection.gone()


def sending(pick: Callable[[list[bytes]], Iterable[bytes]], *, hangs: bool = False, is_chunked: bool = False) -> Behave:
    """Other events than those of a whole answer, and then the end of the connection, or silence."""

    async def behave(connection: Connection) -> None:
        await connection.head(headers={"transfer-encoding": "chunked"} if is_chunked else {})
        for event in pick(events_of(connection)):
            await connection.stream.send(b"%x\r\n%b\r\n" % (len(event), event) if is_chunked else event)
        if hangs:
            await connection.gone()

    return behave


def speaking(type_: str, body: bytes) -> Behave:
    """Another body than one of events."""

    async def behave(connection: Connection) -> None:
        await connection.head(200, type_)
        await connection.stream.send(body)

    return behave


ERROR = b'event: error\ndata: {"type": "error", "error": {"type": "api_error", "message": "it broke"}}\n\n'

AT_ONCE: dict[str, Behave] = {
    "status 500": refusing(500),
    "status 429": refusing(429, retry_after="7"),
    "status 503": refusing(503),
    "status 401": refusing(401, "bad key sk-secret"),
    "no response": cut_off,
    "silence": hung_at_once,
    "silence behind its head": hung_behind_its_head,
    "a page": speaking("text/html", b"<html>Welcome</html>"),
    "garbage": speaking("text/event-stream", bytes(range(256)) * 10),
    "no JSON": speaking("text/event-stream", b"data: {nonsense\n\n"),
    "a list": speaking("text/event-stream", b"data: [1]\n\n"),
    "an error": speaking("text/event-stream", ERROR),
    "nothing": speaking("text/event-stream", b""),
    "an endless event": speaking("text/event-stream", b"data: " + b"x" * (2**20 + 2**17)),
}
"""Faults before the first word."""

MIDWAY: dict[str, Behave] = {
    "its end": sending(lambda events: events[:6]),
    "the end before its last event": sending(lambda events: events[:-1]),
    "a cut connection": sending(lambda events: events[:6], is_chunked=True),
    "lasting silence": sending(lambda events: events[:6], hangs=True),
    "garbage": sending(lambda events: [*events[:6], b"\xff\xfe\x00\n\n"]),
    "no JSON": sending(lambda events: [*events[:6], b"data: {\n\n"]),
    "an error": sending(lambda events: [*events[:6], ERROR]),
    "half an event": sending(lambda events: [*events[:6], events[6][:-5]]),
}
"""Faults behind the first words."""
