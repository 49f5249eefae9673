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
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import pytest

from mlx_sidecar_conformance.matching import contains_all
from mlx_sidecar_protocol.framing import FrameDecoder, FrameFault, encode_frame

HERE = Path(__file__).parent
CASES = [json.loads(line) for line in (HERE / "cases.jsonl").read_bytes().splitlines()]
FRAMINGS: dict[str, Literal["lines", "headers"]] = {"ndjson": "lines", "lsp": "headers"}
RUNS = [
    pytest.param(case, framing, id=f"{case['id']}-{name}")
    for case in CASES
    for name, framing in FRAMINGS.items()
    if case["framing"] in ("both", name)
]
FIRST = {case["id"] for case in {case["group"]: case for case in reversed(CASES)}.values()}
SOON_S = 20.0
STRETCH = 20  # what a case says of time is played so much slower: then a busy machine cannot hide what is told apart

Message = tuple[Any, bytes]


@pytest.fixture(scope="session")
def command() -> list[str]:
    """What is tested. Must serve the fixture methods."""
    return [sys.executable, "-m", "mlx_sidecar", "serve", "--fixtures", "--engine", "fake"]


@pytest.fixture(scope="session")
def lasting() -> Iterator[dict[str, Peer]]:
    """For each framing the process that has served all cases so far which leave it as it was."""
    peers: dict[str, Peer] = {}
    yield peers
    for peer in peers.values():
        peer.kill()


@pytest.fixture
def peer(
    case: dict[str, Any], framing: Literal["lines", "headers"], command: list[str], lasting: dict[str, Peer]
) -> Iterator[Peer]:
    taken = (lasting.pop(framing, None) if shares(case) else None) or Peer(command)
    taken.begin(framing)
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


class Peer:
    """A process, what it was sent and what it answered."""

    def __init__(self, command: list[str]) -> None:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
        )
        self.framing: Literal["lines", "headers"] = "lines"
        self.replies: list[Message] = []
        self.changed = threading.Condition()
        self._ended = False
        self._reader = threading.Thread(target=self._read, daemon=True)
        self.is_sound = False  # all it was asked is answered, as it should be

    def begin(self, framing: Literal["lines", "headers"]) -> None:
        """Get ready for a case."""
        self.framing = framing
        self.replies, self.is_sound = [], False
        if self._reader.ident is None:
            self._reader.start()

    def write(self, data: bytes, step: int | None = None) -> None:
        assert self.process.stdin is not None
        try:
            for at in range(0, len(data), step or max(1, len(data))):
                self.process.stdin.write(data[at : at + (step or len(data))])
                self.process.stdin.flush()
        except BrokenPipeError:
            return  # it may have left after a fatal error; what it answered is what counts

    def send(self, body: bytes) -> None:
        self.write(encode_frame(body, self.framing))

    def wait(self, count: int) -> bool:
        with self.changed:
            return self.changed.wait_for(lambda: len(self.replies) >= count or self._ended, SOON_S)

    def settled(self, probe: str) -> list[Message]:
        """All replies but that to ``probe``, which is sent now and answered last."""
        self.send(json.dumps({"jsonrpc": "2.0", "id": probe, "method": "t.none"}).encode())
        with self.changed:
            assert self.changed.wait_for(lambda: self._has(probe), SOON_S), "dead afterwards"
            return [reply for reply in self.replies if not _is_answer_to(reply, probe)]

    def end(self) -> int:
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):
            self.process.stdin.close()
        status = self.process.wait(SOON_S)
        self.wait(sys.maxsize)
        return status

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        if self._reader.ident is not None:
            self._reader.join()  # before its descriptor is closed, and means another process
        for stream in (self.process.stdin, self.process.stdout):
            assert stream is not None
            try:
                stream.close()
            except BrokenPipeError:
                continue

    def _has(self, id_: str) -> bool:
        return any(_is_answer_to(reply, id_) for reply in self.replies)

    def _read(self) -> None:
        assert self.process.stdout is not None
        decoder = FrameDecoder(self.framing)
        while data := os.read(self.process.stdout.fileno(), 65536):
            self._take(decoder.feed(data))
        with self.changed:
            self._ended = True
            self.changed.notify_all()

    def _take(self, frames: list[bytes | FrameFault]) -> None:
        with self.changed:
            for frame in frames:
                assert isinstance(frame, bytes), frame
                value = json.loads(frame.decode("utf-8"), parse_constant=_refuse)
                if not (isinstance(value, dict) and "method" in value and "id" not in value):
                    self.replies.append((value, frame))
            self.changed.notify_all()


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
    peer.write(content(raw) if isinstance(raw, dict) else base64.b64decode(raw), case.get("split"))
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
def test_conformance(case: dict[str, Any], framing: Literal["lines", "headers"], peer: Peer) -> None:
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
