"""Drives a sidecar with python-lsp-jsonrpc, the library under pylsp; prints its messages as one JSON object."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import Future
from itertools import count
from typing import Any

from pylsp_jsonrpc.endpoint import Endpoint
from pylsp_jsonrpc.exceptions import JsonRpcException
from pylsp_jsonrpc.streams import JsonRpcStreamReader, JsonRpcStreamWriter

PATIENCE_S = 60.0  # far beyond what anything takes


class Client:
    """One sidecar; its messages are taken by a thread."""

    def __init__(self, command: list[str]) -> None:
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.deltas: dict[str, list[Any]] = defaultdict(list)
        self.begun: dict[str, threading.Event] = defaultdict(threading.Event)
        self._ids = (f"id {number}" for number in count(1))
        self.last_id = ""
        writer = JsonRpcStreamWriter(self.process.stdin)
        dispatcher = {"stream/delta": self._on_delta, "engine/state": lambda _: None}
        self.endpoint = Endpoint(dispatcher, writer.write, id_generator=self._next_id)
        reader = JsonRpcStreamReader(self.process.stdout)
        self._thread = threading.Thread(target=reader.listen, args=(self.endpoint.consume,))
        self._thread.start()

    def _next_id(self) -> str:
        self.last_id = next(self._ids)
        return self.last_id

    def _on_delta(self, delta: Any) -> None:
        self.deltas[delta["stream"]].append(delta)
        self.begun[delta["stream"]].set()

    def call(self, method: str, params: Any = None) -> Any:
        return self.endpoint.request(method, params).result(PATIENCE_S)

    def error(self, method: str) -> Any:
        try:
            return self.call(method)
        except JsonRpcException as error:
            return {"code": error.code, "data": error.data}

    def cancelled(self, stream: str, cancel: Callable[[str], Any]) -> Any:
        """The result of a long generation; ``cancel`` is called with its id after its first delta."""
        params = {"model": "fake?tokens=100000&delay_ms=5", "prompt": "Hello", "stream": stream}
        answer: Future[Any] = self.endpoint.request("generate", params)
        id_ = self.last_id
        assert self.begun[stream].wait(PATIENCE_S)
        cancel(id_)
        return answer.result(PATIENCE_S)

    def wait(self) -> int:
        """The exit status, when all it said has been read."""
        self._thread.join(PATIENCE_S)
        self.endpoint.shutdown()
        return self.process.wait(PATIENCE_S)


def drive(command: list[str], text: str) -> dict[str, Any]:
    client = Client(command)
    hello = {"protocol_version": 1, "client": {"name": "python-lsp-jsonrpc"}, "process_id": os.getpid()}
    seen: dict[str, Any] = {"initialize": client.call("initialize", hello)}
    client.endpoint.notify("initialized", {})
    seen["ping"] = client.call("ping")
    seen["finished"] = client.call("generate", {"model": "fake?tokens=40", "prompt": "Hello", "stream": "finished"})
    tokens = client.call("tokenize", {"model": "fake", "text": text})["tokens"]
    seen["returned"] = client.call("detokenize", {"model": "fake", "tokens": tokens})
    seen["cancelled_by_id"] = client.cancelled("id", lambda id_: client.endpoint.notify("$/cancelRequest", {"id": id_}))
    seen["cancelled_by_stream"] = client.cancelled(
        "stream", lambda _: client.call("stream/cancel", {"stream": "stream"})
    )
    seen["unknown_method"] = client.error("no/such")
    seen["shutdown"] = client.call("shutdown")
    client.endpoint.notify("exit")
    seen["exit_status"] = client.wait()
    return {**seen, "deltas": client.deltas, "errors": []}


if __name__ == "__main__":
    print(json.dumps(drive(json.loads(os.environ["SIDECAR_COMMAND"]), json.loads(os.environ["SIDECAR_TEXT"]))))
