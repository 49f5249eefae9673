"""Asks this gateway and mlx-lm's server the same questions, and prints the table of docs/comparison.md.

    python tools/docs_compare.py

Both serve the embedded model, from this environment, in processes of their own. A cell says what was answered:
*honoured*, *refused* (a status from 400 on, which names it or not), or *no effect*.
"""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import httpx
import psutil

from mlx_sidecar import pocket

PATIENCE_S = 120.0
CHAT = [{"role": "user", "content": "What is mlx-sidecar?"}]
FORM = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 12}, "warm": {"type": "boolean"}},
    "required": ["name", "warm"],
    "additionalProperties": False,
}
TOOL = {"type": "function", "function": {"name": "forecast", "parameters": FORM}}
ANSWER_AT_ONCE: dict[str, Any] = {"chat_template_kwargs": {"enable_thinking": False}}

Answer = dict[str, Any]


@dataclass(frozen=True)
class Server:
    """A running server; ``victim`` is the process that computes."""

    url: str
    model: str
    victim: Callable[[], int]

    def ask(self, path: str = "/v1/chat/completions", /, **more: Any) -> httpx.Response:
        """Send a request with the model's name; a chat of one question unless told."""
        body = {"model": self.model, **more}
        if path == "/v1/chat/completions":
            body = {"messages": CHAT, "max_tokens": 24, **body}
        return httpx.post(self.url + path, json=body, timeout=PATIENCE_S)

    def text(self, **more: Any) -> str:
        """Return the text of an answer.

        Raises:
            RuntimeError: It is an error.
        """
        answer = self.ask(**more)
        if answer.status_code >= 400:
            raise RuntimeError(f"{answer.status_code}: {answer.text}")
        return str(answer.json()["choices"][0]["message"].get("content") or "")


def verdict(response: httpx.Response, honoured: Callable[[Answer], bool]) -> str:
    """Return what became of a request, in a word."""
    if response.status_code >= 400:
        return f"refused ({response.status_code})"
    return "honoured" if honoured(response.json()) else "no effect"


def has_form(answer: Answer) -> bool:
    """Whether the answer is JSON with the members of the form, and no others."""
    try:
        value = json.loads(answer["choices"][0]["message"]["content"])
    except (TypeError, ValueError):
        return False
    return isinstance(value, dict) and value.keys() == {"name", "warm"} and isinstance(value["warm"], bool)


def form(server: Server) -> str:
    wanted = {"type": "json_schema", "json_schema": {"name": "colour", "schema": FORM, "strict": True}}
    return verdict(server.ask(response_format=wanted, max_tokens=400, **ANSWER_AT_ONCE), has_form)


def tool(server: Server) -> str:
    answer = server.ask(tools=[TOOL], tool_choice="required", max_tokens=100)
    return verdict(answer, lambda told: bool(told["choices"][0]["message"].get("tool_calls")))


def several(server: Server) -> str:
    return verdict(server.ask(n=2), lambda told: len(told["choices"]) == 2)


def unknown(server: Server) -> str:
    return verdict(server.ask(no_such_parameter=1), lambda _: False)


def seed(server: Server) -> str:
    texts = {server.text(temperature=1.5, seed=7) for _ in range(2)}
    return "the same text" if len(texts) == 1 else "another text"


def seed_in_a_batch(server: Server) -> str:
    alone = server.text(temperature=1.5, seed=7)
    with ThreadPoolExecutor(8) as pool:
        texts = list(pool.map(lambda number: server.text(temperature=1.5, seed=number), range(8)))
    return "the same text" if texts[7] == alone else "another text"


def served(path: str, **body: Any) -> Callable[[Server], str]:
    """Return a question: whether a path is served."""

    def asked(server: Server) -> str:
        status = server.ask(path, **body).status_code
        return "served" if status < 400 else f"no ({status})"

    return asked


def killed(server: Server) -> str:
    """Kill the process that computes in mid-stream; tell how the stream ends."""
    body = {"model": server.model, "messages": CHAT, "stream": True, "max_tokens": 400, "temperature": 1.5, "seed": 3}
    lines: list[str] = []
    try:
        with httpx.stream("POST", server.url + "/v1/chat/completions", json=body, timeout=PATIENCE_S) as response:
            for line in response.iter_lines():
                lines.append(line)
                if len(lines) == 8:
                    psutil.Process(server.victim()).send_signal(signal.SIGKILL)
    except httpx.HTTPError as error:
        return f"broken off: {type(error).__name__}"
    return "goes on to its end" if "data: [DONE]" in lines else "ends without its end"


QUESTIONS: dict[str, Callable[[Server], str]] = {
    "`response_format` with a JSON schema": form,
    "`tool_choice: required`": tool,
    "`n: 2`": several,
    "a parameter that does not exist": unknown,
    "a seed, twice": seed,
    "a seed, alone and beside seven others": seed_in_a_batch,
    "OpenAI's `/v1/responses`": served("/v1/responses", input="Hello", max_output_tokens=8),
    "Anthropic's `/v1/messages`": served("/v1/messages", messages=CHAT, max_tokens=8),
    "Ollama's `/api/chat`": served("/api/chat", messages=CHAT, stream=False),
    "`/tokenize`": served("/tokenize", content="Hello"),
    "the process that computes is killed in mid-stream": killed,
}


@contextmanager
def sidecar() -> Iterator[Server]:
    """Our gateway."""
    command = [sys.executable, "-m", "mlx_sidecar", "gateway", "--model", "pocket", "--listen", "127.0.0.1:{port}"]
    with running(command) as (process, url):
        yield Server(url, "pocket", lambda: engine_of(process))


@contextmanager
def mlx_lm() -> Iterator[Server]:
    """mlx-lm's server."""
    command = [sys.executable, "-m", "mlx_lm", "server", "--model", str(pocket.PATH), "--port", "{port}"]
    with running(command) as (process, url):
        yield Server(url, str(pocket.PATH), lambda: process)


@contextmanager
def running(command: list[str]) -> Iterator[tuple[int, str]]:
    """Start a server on a free port and wait for it; its process id and address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen([part.format(port=port) for part in command], stderr=subprocess.DEVNULL)
    try:
        wait_for(port, process)
        yield process.pid, f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    """Wait until a server says that it is healthy.

    Raises:
        RuntimeError: The server ended, or did not come in time.
    """
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.get(f"http://127.0.0.1:{port}/health", timeout=PATIENCE_S).status_code == 200:
                return
        except httpx.ConnectError:
            pass
        time.sleep(0.1)
    raise RuntimeError(f"{process.args!r} does not serve")


def engine_of(process: int) -> int:
    """Return the process id of the engine below a gateway."""
    below = psutil.Process(process).children(recursive=True)
    return next(child.pid for child in below if "mlx_sidecar.engine" in " ".join(child.cmdline()))


def main() -> None:
    columns = []
    for server in (sidecar, mlx_lm):
        with server() as one:
            columns.append([question(one) for question in QUESTIONS.values()])
    print(f"| asked | mlx-sidecar {version('mlx-sidecar')} | mlx_lm.server {version('mlx-lm')} |\n|---|---|---|")
    for title, *cells in zip(QUESTIONS, *columns, strict=True):
        print(f"| {title} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
