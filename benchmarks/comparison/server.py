"""A running server that speaks OpenAI's chats: started on a free port, asked, and watched from outside."""

from __future__ import annotations

import json
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import psutil

PATIENCE_S = 600.0
CHAT_PATH = "/v1/chat/completions"
CHAT = [{"role": "user", "content": "What is mlx-sidecar?"}]


@dataclass(frozen=True)
class Server:
    """A running server; ``victim`` is the process that computes, ``process`` the one that was started."""

    url: str
    model: str
    process: int
    victim: Callable[[], int]

    def ask(self, path: str = CHAT_PATH, /, **more: Any) -> httpx.Response:
        """Send a request with the model's name; a chat of one question unless told."""
        return httpx.post(self.url + path, json=self._body(path, more), timeout=PATIENCE_S)

    def text(self, **more: Any) -> str:
        """Return the text of an answer.

        Raises:
            RuntimeError: It is an error.
        """
        answer = self.ask(**more)
        if answer.status_code >= 400:
            raise RuntimeError(f"{answer.status_code}: {answer.text}")
        return str(answer.json()["choices"][0]["message"].get("content") or "")

    def stream(self, **more: Any) -> Iterator[str]:
        """Yield the events of a streamed chat; leaving the iterator closes the connection.

        Raises:
            RuntimeError: It is an error.
            httpx.HTTPError: The connection broke.
        """
        body = self._body(CHAT_PATH, {"stream": True, **more})
        with httpx.stream("POST", self.url + CHAT_PATH, json=body, timeout=PATIENCE_S) as response:
            if response.status_code >= 400:
                raise RuntimeError(f"{response.status_code}: {response.read().decode(errors='replace')}")
            for line in response.iter_lines():
                if line.startswith("data: "):
                    yield line.removeprefix("data: ")

    def processes(self) -> list[psutil.Process]:
        """Return the process that was started, and all below it."""
        first = psutil.Process(self.process)
        return [first, *first.children(recursive=True)]

    def cpu_s(self) -> float:
        """Return the processor time that its processes have taken, in seconds."""
        times = [process.cpu_times() for process in self.processes()]
        return sum(each.user + each.system for each in times)

    def _body(self, path: str, more: Mapping[str, Any]) -> dict[str, Any]:
        body = {"model": self.model, **more}
        return {"messages": CHAT, "max_tokens": 24, **body} if path == CHAT_PATH else body


def carries_text(event: str) -> bool:
    """Whether an event of a stream brings text of the answer, of whatever channel."""
    choices = [] if event == "[DONE]" else json.loads(event).get("choices", [])
    deltas = [choice.get("delta") or {} for choice in choices]
    return any(delta.get(name) for delta in deltas for name in ("content", "reasoning", "reasoning_content"))


@contextmanager
def running(command: list[str], health: str = "/health") -> Iterator[tuple[int, str]]:
    """Start a server, ``{port}`` in its command being a free one, and wait for it; its process id and address.

    Raises:
        RuntimeError: The server ended, or did not come in time; the message has the end of its log.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [part.format(port=port) for part in command]
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(words, stdout=log, stderr=log)
        try:
            if not _serves(f"http://127.0.0.1:{port}{health}", process):
                log.seek(0)
                raise RuntimeError(f"{words} does not serve: {log.read()[-2000:]}")
            yield process.pid, f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait()


def _serves(url: str, process: subprocess.Popen[bytes]) -> bool:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.get(url, timeout=PATIENCE_S).status_code == 200:
                return True
        except httpx.ConnectError:
            pass
        time.sleep(0.1)
    return False
