"""An adapter for the conformance kit with a client of a page, and with the flaw that is named first, if it is one.

It shows that the kit notices: ``flawed_adapter.py FLAW WORD…``.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from itertools import count
from typing import Any

FLAW = sys.argv[1]
WINDOW = 64
Frame = dict[str, Any]


class Client:
    """One conversation. Frames that nobody waits for yet are kept in ``_later``."""

    def __init__(self, command: list[str]) -> None:
        self._process = subprocess.Popen([*command, "serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
        self._ids = count(1) if FLAW != "uses an id twice" else iter(lambda: 1, 0)
        self._frames = self._read()
        self._later: list[Frame] = []
        who = {} if FLAW == "leaves the sidecar behind" else {"process_id": os.getpid()}
        self.answer(self.ask("initialize", {"protocol_version": 1, "client": {"name": "flawed"}, **who}))
        self.tell("initialized", {})

    def send(self, **message: Any) -> None:
        assert self._process.stdin
        view = memoryview(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")
        while view:
            view = view[self._process.stdin.write(view) :]

    def ask(self, method: str, params: Frame) -> int:
        id_ = next(self._ids)
        more = {"stream": id_, "window": WINDOW} if method == "generate" and FLAW != "streams nothing" else {}
        self.send(id=id_, method=method, params={**params, **more})
        return id_

    def tell(self, method: str, params: Frame) -> None:
        self.send(method=method, params=params)

    def _read(self) -> Iterator[Frame]:
        assert self._process.stdout
        buffer: Any = "" if FLAW == "cuts characters" else b""
        end = "\n" if FLAW == "cuts characters" else b"\n"
        while data := self._process.stdout.read(1 << 16):
            buffer += data.decode(errors="replace") if FLAW == "cuts characters" else data
            *lines, buffer = buffer.split(end)
            yield from map(json.loads, lines)

    def next_of(self, id_: int) -> Frame:
        """The next delta of a request, or its answer."""
        for at, frame in enumerate(self._later):
            if _belongs(frame, id_):
                return self._later.pop(at)
        for frame in self._frames:
            if FLAW == "chokes on unknown notifications" and frame.get("method", "").startswith("t/"):
                sys.exit("what is this?")
            if FLAW == "acknowledges unread deltas" and frame.get("method") == "stream/delta":
                self.tell("stream/ack", {"stream": frame["params"]["stream"], "seq": frame["params"]["seq"]})
            if _belongs(frame, id_):
                return frame
            self._later.append(frame)
        raise EOFError

    def answer(self, id_: int) -> Frame:
        while "method" in (frame := self.next_of(id_)):
            pass
        return frame

    def close(self) -> None:
        if FLAW == "leaves the sidecar behind":
            subprocess.Popen(["cat"], stdin=self._process.stdout, stdout=self._process.stdin)
        elif FLAW != "ends without a goodbye":
            self.answer(self.ask("shutdown", {"cancel": True}))
            self.tell("exit", {})


def _belongs(frame: Frame, id_: int) -> bool:
    if "method" in frame:
        return bool(frame["method"] == "stream/delta" and frame["params"]["stream"] == id_)
    return bool(frame["id"] == id_)


def perform(client: Client, operation: Frame) -> Frame:
    if operation["op"] == "generate":
        return generate(client, operation)
    return outcome(client.answer(client.ask(operation["method"], operation["params"])))


def generate(client: Client, operation: Frame) -> Frame:
    id_ = client.ask("generate", operation["params"])
    taken: list[Frame] = []
    more: Frame = {}
    while "method" in (frame := client.next_of(id_)):
        taken.append(frame["params"])
        if len(taken) % (WINDOW // 2) == 0 and FLAW != "never acknowledges":
            client.tell("stream/ack", {"stream": id_, "seq": frame["params"]["seq"]})
        if len(taken) == operation.get("cancel_after"):
            if FLAW != "never cancels":
                client.tell("stream/cancel", {"stream": id_})
            return {**joined(taken), "result": None}
        if len(taken) == operation.get("stall_after"):
            more = {"meanwhile": [perform(client, other) for other in operation["meanwhile"]]}
    return {**joined(taken), **more, **outcome(frame)}


def joined(taken: list[Frame]) -> Frame:
    if FLAW == "loses a delta":
        taken = taken[:-1]
    if FLAW == "delivers a delta twice":
        taken = taken + taken[-1:]
    text = "".join(delta["text"] for delta in taken)
    tokens = [token for delta in taken for token in delta["tokens"]]
    return {"text": text, "tokens": tokens, "deltas": len(taken), **channels(taken)}


def channels(taken: list[Frame]) -> Frame:
    reasoning = "".join(delta.get("reasoning", "") for delta in taken)
    calls: dict[int, Frame] = {}
    for more in (call for delta in taken for call in delta.get("tool_calls", [])):
        call = calls.setdefault(more["index"], {**more, "arguments": ""})
        if FLAW == "drops fragments of calls" and call["arguments"]:
            continue
        call["arguments"] += more["arguments"]
    named = [{name: call[name] for name in ("id", "name", "arguments")} for call in calls.values()]
    return {"reasoning": reasoning[1:] if FLAW == "drops some reasoning" else reasoning, "tool_calls": named}


def outcome(frame: Frame) -> Frame:
    result = frame.get("result", {})
    error = frame.get("error", result.get("error"))
    if error is None or FLAW == "ignores errors":
        return {"result": result}
    data = error.get("data", {})
    known = {"code": error["code"], "kind": data.get("kind"), "retryable": data.get("retryable")}
    return {"error": known if FLAW == "drops the data of errors" else {**known, "data": data}}


def main() -> None:
    client = Client(sys.argv[2:])
    for line in sys.stdin:
        answer = perform(client, json.loads(line)) if FLAW != "hangs" else client.next_of(0)
        for _ in range(2 if FLAW == "answers twice" else 1):
            sys.stdout.write(json.dumps(answer) + "\n")
    client.close()
    if FLAW == "exits with another status":
        sys.exit(3)


if __name__ == "__main__":
    main()
