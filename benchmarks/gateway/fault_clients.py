"""Clients that note when each part of a stream came, and wait where a fault is to strike."""

from __future__ import annotations

import asyncio
import json
import re
import time
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from tests.gateway.endings import Ended, Spoken, Untruthful
from tests.gateway.support import parsed

_DATA = re.compile(rb"^data: ", re.MULTILINE)


@dataclass
class Client:
    """One stream. ``after`` is the event behind which ``reached`` is set: where the fault strikes."""

    port: int
    spoken: Spoken
    model: str
    after: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    more: dict[str, Any] = field(default_factory=dict)
    reached: asyncio.Event = field(default_factory=asyncio.Event)
    came_s: list[float] = field(default_factory=list)
    received: bytes = b""
    ended: Ended | None = None
    fault: str = ""  # the reason why ``ended`` is None, once it is over

    async def run(self) -> None:
        """Read the stream to its end."""
        self.began_s = time.monotonic()
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(request_of(self.port, self.spoken.path, self.spoken.body(self.model) | self.more, self.headers))
        try:
            while data := await reader.read(1 << 16):
                self.received += data
                self.came_s.append(time.monotonic())
                if not self.reached.is_set() and self.events >= self.after:
                    self.reached.set()
        except ConnectionError:
            pass
        finally:
            writer.close()
            self._judge()
            self.reached.set()

    @property
    def events(self) -> int:
        """The events that have come, without pings and the stream's head."""
        _, _, body = self.received.partition(b"\r\n\r\n")
        if b"application/x-ndjson" in self.received[:2000]:
            lines = [line for line in body.split(b"\n") if line.startswith(b"{") and line.endswith(b"}")]
            return sum(1 for line in map(json.loads, lines) if _says(line))
        return len(_DATA.findall(body)) - body.count(b"event: ping")

    @property
    def longest_silence_s(self) -> float:
        return max(later - earlier for earlier, later in pairwise([self.began_s, *self.came_s]))

    def _judge(self) -> None:
        try:
            response = parsed(self.received)
            if response.is_complete:
                self.ended = self.spoken.ended(response.status, response.body)
            else:
                self.fault = "the connection was cut"
        except (Untruthful, ValueError, IndexError, KeyError) as error:
            self.fault = f"{type(error).__name__}: {error}"


def _says(line: Any) -> bool:
    said = line.get("message", line)
    return bool(said.get("content") or said.get("response") or said.get("thinking") or said.get("tool_calls"))


def request_of(port: int, path: str, body: Any, headers: dict[str, str] | None = None) -> bytes:
    """The bytes of a POST on a connection of its own."""
    data = json.dumps(body).encode()
    usual = {"Host": f"127.0.0.1:{port}", "Content-Length": str(len(data)), "Connection": "close"}
    lines = [f"{name}: {value}" for name, value in {**usual, **(headers or {})}.items()]
    return "\r\n".join([f"POST {path} HTTP/1.1", *lines, "", ""]).encode() + data
