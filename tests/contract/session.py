"""The machine's process: the model judges every byte, and every ending keeps its promises."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import psutil

from tests.support.byte_host import PATIENCE_S

from .expected import Array, Asked, Written, id_text
from .facts import PARKED
from .host import Host
from .messages import MUTE_STREAMS, call
from .model import Broken, Contract
from .streams import demand
from .verdicts import Ajv, check_all

BATCH_LIMIT = 8
FRAME_LIMIT_BYTES = 20_000
TIGHT_BYTES = 4_500_000  # memory for four of the models
Ending = Literal["end of input", "half a frame", "shutdown", "shutdown and cancel", "exit", "bad header"]
ENDINGS: tuple[Ending, ...] = ("end of input", "half a frame", "shutdown", "shutdown and cancel", "exit", "bad header")


class Failed(Broken):
    """A failure with the transcript."""


class Session:
    """One process and one connection. Every failure has the transcript."""

    def __init__(self, framing: str, *, forced: bool, tight: bool, ending: Ending, judge: Ajv | None) -> None:
        options = ["--batch-limit", str(BATCH_LIMIT), "--frame-limit-bytes", str(FRAME_LIMIT_BYTES)]
        options += ["--framing", framing] if forced else []
        options += ["--memory-limit-bytes", str(TIGHT_BYTES)] if tight else []
        self.host = Host(framing, *options)
        self.contract = Contract(batch_limit=BATCH_LIMIT, frame_limit_bytes=FRAME_LIMIT_BYTES, tight=tight)
        self._ending: Ending = ending
        self._judge = judge
        self._failed = False

    def write(
        self, body: bytes, *, sure: bool = False, piece_bytes: int = 1 << 16, hold_bytes: int = 0
    ) -> Asked | Array | None:
        """Write one frame, whose last ``hold_bytes`` leave with the next one."""
        self.hear()
        due = self.contract.written(body, sure=sure)
        with self._told():
            self.host.write(self.host.framed(body), piece_bytes, hold_bytes)
        return due

    def hear(self, *, wait: bool = False) -> None:
        """Judge the frames read since the last call."""
        with self._told():
            for frame in self.host.take(wait=wait):
                self.contract.heard_frame(frame)

    def wait_for(self, asked: Asked) -> None:
        """Wait until a request is answered."""
        self.host.write(b"")
        self.host.go_on_reading()
        while not asked.answered:
            self.hear(wait=True)
            with self._told():
                owed = asked in self.contract.open
                demand(not (owed and self.host.gone), f"the sidecar has left without an answer to {asked}")

    def close(self) -> None:
        """End the session, unless a step has failed, and judge its end."""
        try:
            if not self._failed:
                with self._told():
                    self._end()
        finally:
            self.host.kill()

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Add the frames that were written and read to failures."""
        try:
            yield
        except Failed:
            raise
        except (AssertionError, OSError) as why:
            self._failed = True
            told = self.contract.told(f"{why}\nStandard error: {self.host.complaints()[-2000:]}")
            # Printed, because Hypothesis shows less where the next run differs.
            sys.stderr.write(told + "\n")
            raise Failed(told) from why

    # How it ends.

    def _end(self) -> None:
        if self._ending == "bad header" and self.host.framing == "lines":
            self._ending = "exit"
        status = self._leave()
        self.host.go_on_reading()
        while not self.host.gone:
            self.hear(wait=True)
        self.contract.session_ended()
        left = self.host.process.wait(PATIENCE_S)
        demand(left == (int(not self.contract.was_shut_down) if status is None else status), f"it left with {left}")
        _, alive = psutil.wait_procs(self.host.engines(), PATIENCE_S)
        demand(not alive, f"engines are left: {alive}")
        demand("Traceback" not in self.host.complaints(), "it wrote a traceback")
        check_all(self.contract.heard, self._judge)

    def _leave(self) -> int | None:
        """Make the sidecar end; return the status that is due, None if it depends on whether a shutdown was taken."""
        if self._ending == "end of input":
            self._cancel(only_parked=True)
            self._end_input()
            return 0
        if self._ending == "half a frame":
            return self._break_off_inside()
        if self._ending == "bad header":
            self.contract.broken_off("a header without a length", "invalid_request")
            self.host.write(b"Content-Length: some\r\n\r\n")
            return 1
        if self._ending.startswith("shutdown"):
            asked = self.write(call("shutdown", {"cancel": self._ending != "shutdown"}, id_json='"the end"'), sure=True)
            assert isinstance(asked, Asked)
            if self._ending == "shutdown":
                self._cancel()
                self.wait_for(asked)
        self.write(call("exit"))
        return None

    def _cancel(self, *, only_parked: bool = False) -> None:
        """Cancel the requests that would run on for long, or all."""
        for asked in self.contract.open:
            if asked.id is not None and (not only_parked or (asked.params or {}).get("model") == PARKED):
                self.write(_cancel_of(asked.id))
        for stream in [] if only_parked else MUTE_STREAMS:
            self.write(call("stream/cancel", {"stream": stream}))

    def _end_input(self) -> None:
        self.hear()
        self.contract.input_ended()
        self.host.close_stdin()

    def _break_off_inside(self) -> int:
        """End inside a frame: a line counts without its end, half of a body with a header ends the session."""
        self._cancel(only_parked=True)
        half = b'{"jsonrpc":"2.0","id":1,'
        if self.host.framing == "lines":
            self.write(half, hold_bytes=1)
            self.host.drop_held()
            self._end_input()
            return 0
        self.hear()
        self.contract.broken_off("half a frame", "parse_error")
        self.host.write(self.host.framed(half)[:-1])
        self.host.close_stdin()
        return 1


def _cancel_of(id_: Any) -> bytes:
    text = id_text(id_) if isinstance(id_, Written) else json.dumps(id_)
    return b'{"jsonrpc":"2.0","method":"$/cancelRequest","params":{"id":%b}}' % text.encode()
