"""A real engine process at the far end of a real link, for tests that drive it by messages."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from itertools import count
from typing import Any, TypeVar

from mlx_sidecar.link.adapter_messages import AdapterLoaded, LoadAdapter
from mlx_sidecar.link.codec import Decoder, encode
from mlx_sidecar.link.control_messages import Load, Loaded
from mlx_sidecar.link.engine_config import EngineConfig
from mlx_sidecar.link.messages import (
    Finished,
    Generate,
    Ready,
    Refused,
    Reply,
    Sampling,
    Submit,
    ToEngine,
    ToFront,
    Tokens,
)
from tests.support.link import feed

M = TypeVar("M", bound=ToFront)
_ASKED = ("emitted", "explain", "constraint", "speculation", "adapter")
PATIENCE_S = 120.0  # a test that waits longer has failed; no test measures it


class EngineClient:
    """Our end of the link. Every wait is for a message; others on the way are kept in ``seen``.

    The ends of sequences and of control requests are found by their number, however much has been seen.
    """

    def __init__(self, link: socket.socket, process: subprocess.Popen[bytes]) -> None:
        self.link = link
        self.process = process
        self.seen: list[ToFront] = []
        self._ends: dict[int, Finished] = {}
        self._replies: dict[int, Reply | Refused] = {}
        self._decoder: Decoder[ToFront] = Decoder(ToFront)  # type: ignore[arg-type]  # a union is not a type[T]
        self._numbers = count(1)

    def send(self, *messages: ToEngine) -> None:
        self.link.sendall(b"".join(map(encode, messages)))

    def number(self) -> int:
        """A fresh op or sequence number."""
        return next(self._numbers)

    def wait(self, kind: type[M], where: Callable[[M], bool] = lambda _: True) -> M:
        """The first message of ``kind`` for which ``where`` holds, seen already or still to come."""
        at = 0
        while True:
            for message in self.seen[at:]:
                if isinstance(message, kind) and where(message):
                    return message
            at = len(self.seen)
            self._hear()

    def at_end(self) -> int:
        """Read until the engine closes the link; its exit status."""
        while self._read():
            pass
        return self.process.wait(PATIENCE_S)

    def load(self, model: str, path: str = "", **fields: Any) -> Loaded:
        op = self.number()
        self.send(Load(op, model, path, **fields))
        return self.outcome(op)

    def load_adapter(self, model: str, adapter: str, path: str, **fields: Any) -> AdapterLoaded:
        op = self.number()
        self.send(LoadAdapter(op, model, adapter, path, **fields))
        message = self.reply(op)
        assert isinstance(message, AdapterLoaded), message
        return message

    def outcome(self, op: int) -> Loaded:
        message = self.reply(op)
        assert isinstance(message, Loaded), message
        return message

    def reply(self, op: int) -> Reply | Refused:
        """The message that ends control request ``op``."""
        while op not in self._replies:
            self._hear()
        return self._replies[op]

    def refusal(self, op: int) -> Refused:
        message = self.reply(op)
        assert isinstance(message, Refused), message
        return message

    def submit(self, model: str, tokens: list[int], max_tokens: int = 16, **fields: Any) -> int:
        seq = self.number()
        sampling = fields.pop("sampling", None) or Sampling()
        asked = {name: fields.pop(name) for name in _ASKED if name in fields}
        goal = Generate(sampling, fields.pop("stop_tokens", []), max_tokens, **asked)
        self.send(Submit(seq, model, tokens, goal, **fields))
        return seq

    def finished(self, seq: int) -> Finished:
        while seq not in self._ends:
            self._hear()
        return self._ends[seq]

    def wait_tokens(self, seq: int) -> Tokens:
        return self.wait(Tokens, lambda message: message.seq == seq)

    def tokens(self, seq: int) -> list[int]:
        """All tokens of ``seq``, which is waited for."""
        self.finished(seq)
        return [
            token
            for message in self.seen
            if isinstance(message, Tokens) and message.seq == seq
            for token in message.tokens
        ]

    def generate(self, model: str, tokens: list[int], max_tokens: int = 16, **fields: Any) -> list[int]:
        """Submit and wait: the tokens of a sequence that must not fail."""
        seq = self.submit(model, tokens, max_tokens, **fields)
        assert self.finished(seq).reason in ("stop", "length"), self.finished(seq)
        return self.tokens(seq)

    def _hear(self) -> None:
        if not self._read():
            raise AssertionError(f"the engine left with status {self.process.wait(PATIENCE_S)}")

    def _read(self) -> bool:
        try:
            data = self.link.recv(1 << 16)
        except ConnectionResetError:  # it died with our messages unread
            data = b""
        messages = feed(self._decoder, data)
        self.seen += messages
        for message in messages:
            if isinstance(message, Finished):
                self._ends.setdefault(message.seq, message)
            elif isinstance(message, Reply | Refused):
                self._replies.setdefault(message.op, message)
        return bool(data)


@contextmanager
def engine_process(program: tuple[str, ...] = ("-m", "mlx_sidecar.engine"), **config: Any) -> Iterator[EngineClient]:
    """An engine with ``config``, fields of ``EngineConfig``; it has left when the block has. ``program`` is what Python
    runs."""
    ours, theirs = socket.socketpair()
    ours.settimeout(PATIENCE_S)
    with theirs:
        told = json.dumps(asdict(EngineConfig(**config)))
        command = [sys.executable, *program, "--fd", str(theirs.fileno()), "--config", told]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()])
    try:
        with ours:
            yield EngineClient(ours, process)
        process.wait(PATIENCE_S)
    finally:
        process.kill()
        process.wait()


@contextmanager
def ready_engine(**config: Any) -> Iterator[EngineClient]:
    """An engine that has said ``Ready``."""
    with engine_process(**config) as client:
        client.wait(Ready)
        yield client
