from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.serving.http_servers import HttpContender, LlamaServer, MlxLmServer
from benchmarks.serving.request import ContenderFailed, Flight, Request

REQUEST = Request([1, 2], "Hi", 3, {"temperature": 0.5}, seed=7)


def event(**frame: Any) -> bytes:
    return f"data: {json.dumps(frame)}\n\n".encode()


def answer(*texts: str) -> bytes:
    told = b"".join(event(choices=[{"text": text, "finish_reason": None}]) for text in texts)
    told += event(choices=[{"text": "", "finish_reason": "length"}])
    return told + event(choices=[], usage={"completion_tokens": 3}) + b"data: [DONE]\n\n"


def chunked(body: bytes, size: int) -> bytes:
    parts = [body[at : at + size] for at in range(0, len(body), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


async def ask(contender: HttpContender, reply: bytes, request: Request = REQUEST) -> tuple[Flight, str, dict[str, Any]]:
    """Send one request to a scripted server; return its flight, and the path and body that the server got."""
    got: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(line for line in head.split(b"\r\n") if line.startswith(b"Content-Length: "))
        got.extend([head, await reader.readexactly(int(length.split()[1]))])
        writer.write(reply)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", contender._process.port):
        flight = await contender.start(request).result()
    return flight, got[0].split()[1].decode(), json.loads(got[1])


@pytest.mark.parametrize("framing", ["plain", "chunked"])
def test_a_stream_of_events_is_a_flight(framing: str) -> None:
    body = answer(" a", " b", " c")
    reply = b"HTTP/1.0 200 OK\r\nContent-type: text/event-stream\r\n\r\n" + body
    if framing == "chunked":
        reply = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(body, 11)
    flight, path, sent = asyncio.run(ask(MlxLmServer(Path("model")), reply))
    assert [tokens for _, tokens in flight.deltas] == [1, 1, 1]
    assert (flight.finish, flight.completion_tokens) == ("length", 3)
    assert path == "/v1/completions"
    assert sent == {
        "prompt": "Hi",
        "max_tokens": 3,
        "temperature": 0.5,
        "seed": 7,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def test_text_that_was_held_back_is_counted_by_the_usage() -> None:
    reply = b"HTTP/1.0 200 OK\r\n\r\n" + answer("", " abc")
    flight, _, _ = asyncio.run(ask(MlxLmServer(Path("model")), reply))
    assert len(flight.deltas) == 1
    assert flight.completion_tokens == 3


def test_llama_cpp_is_told_to_ignore_the_end_and_the_cache() -> None:
    reply = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(answer(" a"), 7)
    chat = Request([1, 2], "Hi", 3, chat=True)
    _, path, sent = asyncio.run(ask(LlamaServer(Path("model")), reply, chat))
    assert path == "/v1/chat/completions"
    assert sent["messages"] == [{"role": "user", "content": "Hi"}]
    assert sent["ignore_eos"] is True
    assert sent["cache_prompt"] is False


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        (b'HTTP/1.0 404 Not Found\r\n\r\n{"error": "no model"}', "404.*no model"),
        (b"HTTP/1.0 200 OK\r\n\r\n" + event(error={"message": "died"}), "died"),
        (b"HTTP/1.0 200 OK\r\n\r\n" + event(choices=[{"text": "a"}]), "ended before"),
        (b"", "IncompleteReadError"),
    ],
)
def test_a_server_that_fails_fails_its_flight(reply: bytes, why: str) -> None:
    with pytest.raises(ContenderFailed, match=why):
        asyncio.run(ask(MlxLmServer(Path("model")), reply))


def test_a_missing_llama_server_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert LlamaServer.missing() == "not installed: no llama-server on PATH"
