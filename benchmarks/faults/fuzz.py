"""Frames with every kind of damage against ``serve --engine fake``, in both framings and in pieces of any size.

Among them are well-formed requests, each of which must be answered exactly once. Every frame of the sidecar must be
JSON-RPC, no answer may be ``internal_error``, and front and engine must be the same processes at the end. With headers
each process is ended by a header that cannot be used.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from random import Random
from threading import Condition, Thread
from typing import Any

from jsonschema import Draft202012Validator

from mlx_sidecar_protocol.framing import FrameDecoder, FrameFault

from ..measure import Row
from .damage import LIMIT_BYTES
from .frames import Frames, Framing, framed, request
from .report import Report

FRAMES, QUICK_FRAMES = 1_000_000, 3_000

_WELL_FORMED = 0.2  # of all frames
_AT_ONCE = 64  # frames to a write
_OPEN = 1000  # well-formed requests without an answer, at most
_CHECKED = 500  # one frame in so many is held against the schema
_TIDY_EVERY = 20_000  # frames
_PATIENCE_S = 60.0
_SCHEMA = Path(__file__).parents[2] / "schemas" / "mlx-sidecar.schema.json"
# Errors that a request which asks for nothing wrong may be answered, because of other requests.
_EXCUSES = {"overloaded", "out_of_memory"}
_FATAL = [
    *(b"Content-Length: x\r\n\r\n", b"Content-Length: -1\r\n\r\n", b"Content-Length: 1e3\r\n\r\n", b"X: 1\r\n\r\n"),
    *(b"Content-Length: 99999999999999999999\r\n\r\n", b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n"),
    *(b"X: " + b"h" * 9000, b"{}\r\n\r\n", b"\x00\r\n\r\n", b"Content-Length: \xd9\xa3\r\n\r\n"),
]


def run(seed: int, quick: bool) -> Report:
    count = QUICK_FRAMES if quick else FRAMES
    lives = 1 if quick else len(_FATAL)
    total = Tally()
    began = time.monotonic()
    fuzz(seed, "lines", count // 2, total)
    for life in range(lives):
        fuzz(seed + 1 + life, "headers", count // 2 // lives, total, _FATAL[(seed + life) % len(_FATAL)])
    return Report(_rows(total, time.monotonic() - began), total.broken)


class Tally:
    """Counts of frames sent and read, and broken promises, of all processes together."""

    def __init__(self) -> None:
        self.sent = 0
        self.well_formed = 0
        self.answered = 0
        self.received = 0
        self.errors: Counter[str] = Counter()
        self.broken: list[str] = []


def fuzz(seed: int, framing: Framing, count: int, tally: Tally, fatal: bytes | None = None) -> None:
    """Send ``count`` frames to one process, which ``fatal`` or the end of its input ends."""
    with tempfile.TemporaryFile() as stderr, _process(stderr) as process:
        target = _Target(process, framing, tally, f"{framing}, seed {seed}")
        try:
            _Attack(seed, framing, target, tally).run(count)
            target.end(fatal)
        except _Broken as broken:
            tally.broken.append(f"{framing}, seed {seed}: {broken}")
        stderr.seek(0)
        said = stderr.read()
        if b"Traceback" in said:
            tally.broken.append(f"{framing}, seed {seed}: {said[-2000:].decode(errors='replace')}")


class _Broken(Exception):
    """The run cannot go on."""


@contextmanager
def _process(stderr: Any) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-P", "-m", "mlx_sidecar", "serve", "--engine", "fake"]
    # So little memory that models come and go; so small a frame that too large ones are cheap.
    command += ["--memory-limit-bytes", "40000000", "--frame-limit-bytes", str(LIMIT_BYTES)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, bufsize=0)
    with process:
        try:
            yield process
        finally:
            process.kill()


class _Target:
    """The sidecar's pipes. A thread reads and judges; only it counts frames that were read."""

    def __init__(self, process: subprocess.Popen[bytes], framing: Framing, tally: Tally, where: str) -> None:
        self._process = process
        self._framing: Framing = framing
        self._tally = tally
        self._where = where
        self._open: dict[str, str] = {}  # the methods of well-formed requests without an answer
        self._results: dict[str, dict[str, Any]] = {}  # of those that ``call`` waits for
        self._changed = Condition()
        self._ended = False
        self._reader = Thread(target=self._read, daemon=True)
        self._reader.start()

    # Writing.

    def write(self, data: bytes) -> None:
        assert self._process.stdin
        view = memoryview(data)
        try:
            while view:
                view = view[self._process.stdin.write(view) :]
        except BrokenPipeError:
            raise _Broken(f"the sidecar has left with status {self._process.wait()}") from None

    def expect(self, id_: str, what: str) -> None:
        """Expect an answer to ``id_``, which is about to be sent. Waits until not too many are open."""
        self.wait(_OPEN)
        with self._changed:
            self._open[id_] = what

    def wait(self, most: int = 0) -> None:
        """Wait until no more than ``most`` requests are open."""
        with self._changed:
            settled = self._changed.wait_for(lambda: len(self._open) <= most or self._ended, _PATIENCE_S)
            if self._ended:
                raise _Broken(f"the sidecar has left with status {self._process.wait()}")
            if not settled:
                raise _Broken(f"not answered: {list(self._open.values())[:3]}")

    def call(self, id_: str, method: str, params: dict[str, Any]) -> dict[str, Any]:
        self.expect(id_, method)
        self.write(framed(self._framing, request(id_, method, params)))
        self.wait()
        return self._results.pop(id_)

    def end(self, fatal: bytes | None) -> None:
        """Let the process end, and judge how it does."""
        assert self._process.stdin
        if fatal is not None:
            self.write(fatal)
        self._process.stdin.close()
        try:
            status = self._process.wait(_PATIENCE_S)
        except subprocess.TimeoutExpired:
            raise _Broken("it did not leave") from None
        self._reader.join(_PATIENCE_S)
        if status != (0 if fatal is None else 1):
            raise _Broken(f"it left with status {status} after {fatal!r}")

    # Reading.

    def _read(self) -> None:
        assert self._process.stdout
        decoder = FrameDecoder(self._framing)
        while data := self._process.stdout.read(1 << 16):
            for body in decoder.feed(data):
                self._tally.received += 1
                try:
                    self._judge(body)
                except ValueError as why:
                    self._tally.broken.append(f"{self._where}: {why} in {body[:500]!r}")
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _judge(self, body: bytes | FrameFault) -> None:
        """Judge one frame. Raises ValueError if it is not JSON-RPC."""
        if isinstance(body, FrameFault):
            raise ValueError(f"no frame ({body.error.message})")
        frame = json.loads(body.decode(), parse_constant=_refuse)
        if self._tally.received % _CHECKED == 0:
            _check(frame)
        for message in frame if isinstance(frame, list) else [frame]:
            members = set(message)
            if members == {"jsonrpc", "id", "result"} and isinstance(message["result"], dict):
                self._answered(message["id"], message)
            elif members == {"jsonrpc", "id", "error"}:
                self._failed(message)
            elif members != {"jsonrpc", "method", "params"}:
                raise ValueError("not a message")

    def _failed(self, message: dict[str, Any]) -> None:
        kind = message["error"]["data"]["kind"] if "data" in message["error"] else str(message["error"]["code"])
        self._tally.errors[kind] += 1
        if kind == "internal_error":
            raise ValueError(kind)
        asked = self._open.get(message["id"]) if isinstance(message["id"], str) else None
        # `_tidy_up` may find a model that is gone before it is unloaded.
        excused = kind in _EXCUSES or (asked, kind) == ("unload", "model_not_loaded")
        if asked is not None and not excused:
            self._tally.broken.append(f"{self._where}: {asked} was refused: {message['error']}")
        self._answered(message["id"], message)

    def _answered(self, id_: Any, message: dict[str, Any]) -> None:
        if not isinstance(id_, str) or not id_.startswith("well-formed "):
            return
        with self._changed:
            if self._open.pop(id_, None) is None:
                raise ValueError("a second answer")
            if id_.startswith("well-formed call "):
                self._results[id_] = message.get("result", {})
            self._tally.answered += 1
            self._changed.notify_all()


class _Attack:
    """The frames that are sent to one target."""

    def __init__(self, seed: int, framing: Framing, target: _Target, tally: Tally) -> None:
        self._pick = Random(f"{seed} {framing}")
        self._frames = Frames(seed)
        self._framing: Framing = framing
        self._target = target
        self._tally = tally
        self._calls = 0

    def run(self, count: int) -> None:
        """Raises _Broken."""
        self._call("initialize", {"protocol_version": 1, "client": {"name": "fuzz", "version": "1"}})
        while (engine := self._call("stats", {})["engine"])["state"] != "ready":
            pass
        for done in range(0, count, _AT_ONCE):
            self._write(b"".join(self._next() for _ in range(min(_AT_ONCE, count - done))))
            if done % _TIDY_EVERY < _AT_ONCE:
                self._tidy_up()
        self._tidy_up()
        self._call("ping", {})
        now = self._call("stats", {})["engine"]
        if (now["pid"], now["restarts"]) != (engine["pid"], 0):
            raise _Broken(f"the engine is another one: {now}, and was {engine}")

    def _next(self) -> bytes:
        pick = self._pick
        self._tally.sent += 1
        if pick.random() > _WELL_FORMED:
            # With headers a frame that is too large is the end, because the next one cannot be found.
            most_bytes = None if self._framing == "lines" else LIMIT_BYTES
            return framed(self._framing, self._frames.fuzzed()[:most_bytes], pick)
        self._tally.well_formed += 1
        id_, text = self._frames.request() if pick.random() < 0.9 else self._frames.batch()
        self._target.expect(id_, text.decode()[:500])
        return framed(self._framing, text, pick)

    def _write(self, data: bytes) -> None:
        """Write bytes whole, in two pieces, or in many."""
        cuts = sorted(self._pick.randrange(len(data)) for _ in range(self._pick.choice((0, 0, 1, 1, 2, 20))))
        for begin, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
            self._target.write(data[begin:end])

    def _tidy_up(self) -> None:
        """End all that fuzzed frames have begun and that does not end by itself."""
        self._target.wait()
        for card in self._call("models", {})["models"]:
            self._call("unload", {"model": card["model"], "force": True})

    def _call(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        self._calls += 1
        self._tally.sent += 1
        self._tally.well_formed += 1
        return self._target.call(f"well-formed call {self._calls}", method, params)


@cache
def _schema() -> Draft202012Validator:
    bundle = json.loads(_SCHEMA.read_text())
    return Draft202012Validator({"$ref": "#/$defs/AnyOutgoingFrame", "$defs": bundle["$defs"]})


def _check(frame: Any) -> None:
    error = next(_schema().iter_errors(frame), None)
    if error is not None:
        raise ValueError(f"against the schema: {error.message[:500]}")


def _refuse(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _rows(tally: Tally, took_s: float) -> list[Row]:
    errors = ", ".join(f"{kind} {count:,}" for kind, count in tally.errors.most_common())
    return [
        Row("frames sent", f"{tally.sent:,} in {took_s:.0f} s", f"{FRAMES:,}"),
        Row("well-formed requests among them", f"{tally.well_formed:,}"),
        Row("of these answered, each once", f"{tally.answered:,}", f"{tally.well_formed:,}"),
        Row("frames that came back", f"{tally.received:,}"),
        Row("errors among them", errors),
        Row("crashes and other broken promises", f"{len(tally.broken)}", "0"),
    ]
