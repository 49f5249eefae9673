"""A contender is a process that measures one engine; the harness starts it, asks it in turn, and ends it."""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from ..serving.request import ContenderFailed
from .work import Times, Work

ROOT = Path(__file__).parents[2]
START_S = 180.0  # a model is loaded and warmed in that time, or never
_END_S = 10.0


@dataclass(frozen=True)
class Contender:
    """``module``, run by ``python`` from the root of this checkout with ``options``, a JSON object."""

    name: str
    module: str
    options: Mapping[str, Any] = field(default_factory=dict)
    python: str = sys.executable


class Side:
    """A running contender. ``facts`` are what it tells of itself once its model is loaded."""

    def __init__(self, name: str, child: subprocess.Popen[bytes], log: IO[bytes]) -> None:
        self._name = name
        self._child = child
        self._log = log
        self._rest = b""
        self.facts: dict[str, Any] = self._answer(START_S)

    def measure(self, work: Work, number: int, within_s: float) -> Times:
        """Raises ContenderFailed."""
        assert self._child.stdin is not None
        try:
            self._child.stdin.write(json.dumps([work, number]).encode() + b"\n")
            self._child.stdin.flush()
        except BrokenPipeError as error:
            raise ContenderFailed(f"{self._name} has ended: {self._last_words()}") from error
        return Times(*self._answer(within_s))

    def _answer(self, within_s: float) -> Any:
        assert self._child.stdout is not None
        deadline_s = time.monotonic() + within_s
        with selectors.DefaultSelector() as selector:
            selector.register(self._child.stdout, selectors.EVENT_READ)
            while b"\n" not in self._rest:
                if not selector.select(max(0.0, deadline_s - time.monotonic())):
                    _kill(self._child)  # at once, because it would slow the others
                    raise ContenderFailed(f"{self._name} did not answer within {within_s:g} s")
                data = os.read(self._child.stdout.fileno(), 1 << 16)
                if not data:
                    raise ContenderFailed(f"{self._name} ended: {self._last_words()}")
                self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        return json.loads(line)

    def _last_words(self) -> str:
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "without a word")


@contextmanager
def started(contender: Contender) -> Iterator[Side]:
    """Start a contender, which ends with the block. Raises ContenderFailed."""
    command = [contender.python, "-m", contender.module, json.dumps(contender.options)]
    pipe = subprocess.PIPE
    with tempfile.TemporaryFile() as log:
        # A session of its own, so that what it has started can be killed with it.
        child = subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, stderr=log, start_new_session=True)
        try:
            yield Side(contender.name, child, log)
        finally:
            _end(child)


def _end(child: subprocess.Popen[bytes]) -> None:
    """End a child by the end of its stdin, or kill it and what it has started where that is not enough."""
    assert child.stdin is not None
    assert child.stdout is not None
    with suppress(BrokenPipeError):
        child.stdin.close()
    try:
        child.wait(_END_S)
    except subprocess.TimeoutExpired:
        _kill(child)
    child.stdout.close()


def _kill(child: subprocess.Popen[bytes]) -> None:
    os.killpg(child.pid, signal.SIGKILL)
    child.wait()
