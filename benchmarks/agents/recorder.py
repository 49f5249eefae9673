"""A proxy in front of a gateway, which keeps what is asked and answered."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from .answers import Told, told

_PATIENCE_S = 600
_LEFT = "the client left"
# Headers of one connection, which are not passed on to another one.
_OF_ONE_HOP = frozenset({"connection", "host", "keep-alive", "transfer-encoding"})


@dataclass
class Exchange:
    """A request and its answer."""

    method: str
    path: str
    asked: bytes
    status: int = 0
    ignored: tuple[str, ...] = ()
    answer: bytes = b""
    left: bool = False

    @cached_property
    def body(self) -> dict[str, Any]:
        return json.loads(self.asked) if self.asked.startswith(b"{") else {}

    @property
    def generates(self) -> bool:
        """Whether a model was asked for an answer."""
        return self.method == "POST" and self.path.split("?")[0].endswith(("/completions", "/messages", "/responses"))

    @property
    def told(self) -> Told:
        return Told(_LEFT) if self.left else told(self.answer)


@dataclass
class Recorder:
    """The requests and answers that went through the proxy at ``url``."""

    url: str
    exchanges: list[Exchange] = field(default_factory=list)

    @property
    def generations(self) -> list[Exchange]:
        return [exchange for exchange in self.exchanges if exchange.generates]


@contextmanager
def recorder(upstream: str) -> Iterator[Recorder]:
    """A proxy to the gateway at ``upstream``, on a port of its own."""
    target = urlsplit(upstream).netloc

    class Handler(_Handler):
        def forward(self) -> None:
            self.pass_on(target, record.exchanges)

        do_GET = do_POST = do_HEAD = forward  # noqa: N815  # names that the library asks for

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        record = Recorder(f"http://127.0.0.1:{server.server_address[1]}")
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield record
        finally:
            server.shutdown()


class _Handler(BaseHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the library's name
        """Say nothing on stderr."""

    def pass_on(self, target: str, exchanges: list[Exchange]) -> None:
        asked = self.rfile.read(int(self.headers.get("content-length", 0)))
        exchange = Exchange(self.command, self.path, asked)
        exchanges.append(exchange)
        connection = http.client.HTTPConnection(target, timeout=_PATIENCE_S)
        try:
            headers = {name: value for name, value in self.headers.items() if name.lower() not in _OF_ONE_HOP}
            connection.request(self.command, self.path, asked or None, headers)
            self._answer(connection.getresponse(), exchange)
        except (BrokenPipeError, ConnectionResetError):
            exchange.left = True
        finally:
            connection.close()

    def _answer(self, response: http.client.HTTPResponse, exchange: Exchange) -> None:
        exchange.status = response.status
        exchange.ignored = tuple(filter(None, response.headers.get("x-mlx-sidecar-ignored", "").split(", ")))
        self.send_response(response.status)
        for name, value in response.headers.items():
            if name.lower() not in _OF_ONE_HOP:
                self.send_header(name, value)
        self.end_headers()
        while data := response.read1():
            exchange.answer += data
            self.wfile.write(data)
            self.wfile.flush()
