"""JSON-RPC over stdio, case by case, in both framings.

A case has a process of its own where it ends one, depends on what came before, or is the first of its group: then it is
what the framing is found from. The others come one after another to the same process, as from a host.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import pytest

from mlx_sidecar_conformance.matching import contains_all
from tests.support.byte_host import PATIENCE_S, ByteHost

Framing = Literal["lines", "headers"]
HERE = Path(__file__).parent
CASES = [json.loads(line) for line in (HERE / "cases.jsonl").read_bytes().splitlines()]
FRAMINGS: dict[str, Framing] = {"ndjson": "lines", "lsp": "headers"}
RUNS = [
    pytest.param(case, framing, id=f"{case['id']}-{name}")
    for case in CASES
    for name, framing in FRAMINGS.items()
    if case["framing"] in ("both", name)
]
FIRST = {case["id"] for case in {case["group"]: case for case in reversed(CASES)}.values()}
STRETCH = 20  # what a case says of time is played so much slower: then a busy machine cannot hide what is told apart

Message = tuple[Any, bytes]


@pytest.fixture(scope="session")
def command() -> list[str]:
    """The implementation under test. It must serve the fixture methods."""
    return [sys.executable, "-m", "mlx_sidecar", "serve", "--fixtures", "--engine", "fake"]


@pytest.fixture(scope="session")
def lasting() -> Iterator[dict[str, Peer]]:
    """For each framing the process that has served all cases so far which leave it as it was."""
    peers: dict[str, Peer] = {}
    yield peers
    for peer in peers.values():
        peer.kill()


@pytest.fixture
def peer(case: dict[str, Any], framing: Framing, command: list[str], lasting: dict[str, Peer]) -> Iterator[Peer]:
    taken = (lasting.pop(framing, None) if shares(case) else None) or Peer(command, framing)
    taken.begin()
    yield taken
    if shares(case) and taken.is_sound:
        lasting[framing] = taken
    else:
        taken.kill()


def shares(case: dict[str, Any]) -> bool:
    """Whether a case may come after others: it leaves a process as it found it, and asks for nothing they changed."""
    methods = ("initialize", "shutdown", "exit", "t.bump", "t.count")
    lasts = "raw" not in case and case.get("alive", True) and case["id"] not in FIRST
    return lasts and not any(f'"{name}"' in json.dumps(case) for name in methods)


class Peer(ByteHost):
    """A process, what it was sent and what it answered."""

    def __init__(self, command: list[str], framing: Framing) -> None:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        pipe, devnull = subprocess.PIPE, subprocess.DEVNULL
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=devnull, env=environment, bufsize=0)
        self.replies: list[Message] = []
        self.is_sound = False  # all it was asked is answered, as it should be
        assert self.process.stdin
        assert self.process.stdout
        super().__init__(self.process.stdin, self.process.stdout, framing)

    def begin(self) -> None:
        """Get ready for a case."""
        self.replies, self.is_sound = [], False

    def say(self, data: bytes, step: int | None = None) -> None:
        """Write ``step`` bytes at a time. It may leave after a fatal error; what it answered is what counts."""
        with suppress(BrokenPipeError):
            self.write(data, step or 1 << 16)

    def send(self, body: bytes) -> None:
        self.say(self.framed(body))

    def wait(self, count: int) -> None:
        """Until there are ``count`` replies, or will be no more."""
        while len(self.replies) < count and not self.gone:
            self._take(wait=True)

    def settled(self, probe: str) -> list[Message]:
        """All replies but that to ``probe``, which is sent now and answered last."""
        self.send(json.dumps({"jsonrpc": "2.0", "id": probe, "method": "t.none"}).encode())
        while not any(_is_answer_to(reply, probe) for reply in self.replies):
            assert not self.gone, "dead afterwards"
            self._take(wait=True)
        return [reply for reply in self.replies if not _is_answer_to(reply, probe)]

    def end(self) -> int:
        """End the input and read all that is still said; the exit status."""
        with suppress(BrokenPipeError):
            self.close_stdin()
        self.wait(sys.maxsize)
        return self.process.wait(PATIENCE_S)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self.close_pipes()

    def _take(self, *, wait: bool) -> None:
        for body in self.take(wait=wait):
            value = json.loads(body.decode("utf-8"), parse_constant=_refuse)
            if not (isinstance(value, dict) and "method" in value and "id" not in value):
                self.replies.append((value, body))


def _is_answer_to(reply: Message, id_: str) -> bool:
    return isinstance(reply[0], dict) and reply[0].get("id") == id_


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")


def content(spec: dict[str, Any]) -> bytes:
    """The bytes a case describes."""
    if "j" in spec:
        return json.dumps(spec["j"], ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")
    if "t" in spec:
        return str(spec["t"]).encode("utf-8", "surrogatepass")
    if "b" in spec:
        return base64.b64decode(spec["b"])
    if "cat" in spec:
        return b"".join(text.encode() * times for text, times in spec["cat"])
    return json.dumps([{**spec["of"], "id": number} for number in range(spec["batch_n"])]).encode()


def stretched(part: Any) -> Any:
    """A case, or a part of one, in which everything takes longer."""
    if isinstance(part, dict):
        return {
            name: value * STRETCH if name in ("ms", "slept", "within_ms") else stretched(value)
            for name, value in part.items()
        }
    return [stretched(value) for value in part] if isinstance(part, list) else part


def needed(case: dict[str, Any]) -> int:
    return sum(1 for pattern in case["expect"] if not (isinstance(pattern, dict) and "$maybe" in pattern))


def play_raw(case: dict[str, Any], peer: Peer) -> list[Message]:
    raw = case["raw"]
    peer.say(content(raw) if isinstance(raw, dict) else base64.b64decode(raw), case.get("split"))
    status = peer.end()
    assert contains_all([case.get("exit", 0)], [status]), f"exit status {status}"
    return peer.replies


def play_frames(case: dict[str, Any], peer: Peer) -> list[Message]:
    sent = 0
    for frame in case["send"]:
        if "wait" in frame:
            peer.wait(sent)
        elif "wait_ms" in frame:
            time.sleep(frame["wait_ms"] / 1000)  # the case is about time
        else:
            peer.send(content(frame))
            sent += 1
    peer.wait(needed(case))
    return peer.settled("all of it?") if case.get("alive", True) else peer.replies


@pytest.mark.parametrize(("case", "framing"), RUNS)
def test_conformance(case: dict[str, Any], framing: Framing, peer: Peer) -> None:
    if "within_ms" in case:
        case = stretched(case)
    started = time.monotonic()
    replies = play_raw(case, peer) if "raw" in case else play_frames(case, peer)
    if "within_ms" in case:
        assert time.monotonic() - started < case["within_ms"] / 1000
    in_order = case.get("order") == "sent"
    assert contains_all(case["expect"], [value for value, _ in replies], in_order), (case["why"], replies)
    for pattern in case["expect"]:
        if isinstance(pattern, dict) and "$frame" in pattern:
            assert all(len(frame) <= pattern["$frame"]["$max_bytes"] for _, frame in replies)
        for secret in pattern.get("$not_contains", ()) if isinstance(pattern, dict) else ():
            assert all(secret.encode() not in frame for _, frame in replies)
    peer.is_sound = True
