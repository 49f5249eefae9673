"""Sends a logged request again, and writes its answer and its times beside the logged ones."""

from __future__ import annotations

import http.client
import json
import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any
from urllib.parse import urlsplit

from ..failures import FAILED, USAGE, Refused
from ..terminal import complain, note
from ..terminal_text import harmless
from .answer_text import error_in, text_in, tokens_in
from .entries import Entry, Line

_CONNECT_S = 10.0


@dataclass
class Replayed:
    """The answer. Times are in seconds from the sending of the request."""

    id: str
    status: int
    first_text_s: float | None = None
    duration_s: float = 0.0
    tokens: int | None = None
    error: str | None = None


def replay(line: Line, gateway: str, key_file: str | None) -> int:
    """Send the request of ``line`` to ``gateway``; returns the exit status. Raises ``Refused`` if it cannot be sent."""
    body = _body_of(line)
    headers = {"content-type": "application/json"}
    if key_file is not None:
        headers["authorization"] = f"Bearer {_key_in(key_file)}"
    connection, prefix = _connection(gateway)
    try:
        connection.connect()
        connection.sock.settimeout(None)  # an answer may take as long as it likes; Ctrl-C ends it
        sent_s = monotonic()
        connection.request(line.entry.method, prefix + line.entry.path, body, headers)
        replayed = _heard(connection.getresponse(), sent_s)
    except (OSError, http.client.HTTPException) as error:
        raise Refused(f"--gateway {gateway}: {error}") from error
    finally:
        connection.close()
    _compare(line.entry, replayed)
    if replayed.error is not None:
        complain(replayed.error)
    return 0 if replayed.error is None else FAILED


def _body_of(line: Line) -> bytes:
    logged = json.loads(line.raw)
    if "body" in logged:
        return json.dumps(logged["body"]).encode()
    because = logged.get("body_left_out") or "the gateway logged no bodies (--log-prompts), or it had none"
    raise Refused(f"--replay {line.entry.id}: the log does not have its body: {because}", USAGE)


def _key_in(file: str) -> str:
    try:
        key = Path(file).read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        raise Refused(f"--key-file {file}: {error}", USAGE) from error
    if not key.isascii() or len(key.split()) != 1:
        raise Refused(f"--key-file {file}: it does not hold one key", USAGE)
    return key


def _connection(gateway: str) -> tuple[http.client.HTTPConnection, str]:
    """A connection, and the path that stands before every other. Raises ``Refused``."""
    if gateway.startswith("unix:"):
        return _PathConnection(gateway.removeprefix("unix:")), ""
    try:
        url = urlsplit(gateway)
        host, port = url.hostname, url.port
    except ValueError as error:
        raise Refused(f"--gateway {gateway}: {error}", USAGE) from error
    if url.scheme not in ("http", "https") or not host:
        raise Refused(f"--gateway {gateway}: neither http://HOST:PORT, nor https, nor unix:PATH", USAGE)
    kind = http.client.HTTPSConnection if url.scheme == "https" else http.client.HTTPConnection
    return kind(host, port, timeout=_CONNECT_S), url.path.rstrip("/")


class _PathConnection(http.client.HTTPConnection):
    """A connection to a socket in the file system."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=_CONNECT_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(_CONNECT_S)
        self.sock.connect(self._path)


def _heard(response: http.client.HTTPResponse, sent_s: float) -> Replayed:
    """Write the text of an answer as it comes."""
    replayed = Replayed(response.headers.get("x-request-id", ""), response.status)
    last: Any = None
    for last in _objects(response):
        replayed.error = error_in(last) or replayed.error
        tokens = tokens_in(last)
        replayed.tokens = replayed.tokens if tokens is None else tokens
        if text := text_in(last):
            if replayed.first_text_s is None:
                replayed.first_text_s = monotonic() - sent_s
            sys.stdout.write(harmless(text))
            sys.stdout.flush()
    replayed.duration_s = monotonic() - sent_s
    if replayed.first_text_s is None and last is not None and replayed.error is None:
        sys.stdout.write(json.dumps(last, ensure_ascii=False, indent=1))  # such as a call of a tool
    if replayed.status >= 400 and replayed.error is None:
        replayed.error = f"status {replayed.status}"
    sys.stdout.write("\n")
    sys.stdout.flush()
    return replayed


def _objects(response: http.client.HTTPResponse) -> Iterator[Any]:
    """The JSON objects of an answer: its events, its lines, or the whole."""
    kind = response.headers.get_content_type()
    if kind not in ("text/event-stream", "application/x-ndjson"):
        text = response.read()
        yield _parsed(text)
        return
    for line in iter(response.readline, b""):
        data = line.removeprefix(b"data:").strip() if kind == "text/event-stream" else line.strip()
        if data.startswith(b"{"):  # no comment, no name of an event, and not [DONE]
            yield _parsed(data)


def _parsed(data: bytes) -> Any:
    try:
        return json.loads(data)
    except ValueError as error:
        raise Refused(f"the answer is no JSON: {error}") from error


def _compare(logged: Entry, now: Replayed) -> None:
    rows = (
        ("", "logged", "now"),
        ("id", logged.id, now.id),
        ("status", str(logged.status), str(now.status)),
        ("first token, text", _seconds(logged.first_token_s), _seconds(now.first_text_s)),
        ("whole answer", _seconds(logged.duration_s), _seconds(now.duration_s)),
        ("tokens", _count(logged.completion_tokens), _count(now.tokens)),
    )
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    for row in rows:
        note("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.3f} s"


def _count(value: int | None) -> str:
    return "" if value is None else str(value)
