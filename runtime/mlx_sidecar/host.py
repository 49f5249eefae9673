"""A small blocking host, without dependencies, for the command line, the demo and the benchmarks."""

from __future__ import annotations

import json
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from types import TracebackType
from typing import Any, NamedTuple, Protocol, Self

Frame = dict[str, Any]


class _Cancel(NamedTuple):
    """Stands among the frames where Ctrl-C came: the thread that awaits an answer then cancels request ``id_``."""

    id_: int


class SidecarError(Exception):
    """The sidecar answered with an error; ``code`` and ``data`` are as on the wire."""

    def __init__(self, error: Frame) -> None:
        super().__init__(error["message"])
        self.code: int = error["code"]
        self.data: Frame = error.get("data", {})


class SidecarGone(Exception):
    """The process ended while an answer was awaited."""


class Watch(Protocol):
    """Asks for something while a generation is awaited: ``waited`` sends requests, ``answered`` gets their answers."""

    every_s: float

    def waited(self, host: Host) -> None:
        """``every_s`` seconds went by without a frame."""

    def answered(self, frame: Frame) -> None:
        """A request was answered, in a whole frame, that was not the one awaited."""


class Host:
    """A running ``mlx-sidecar serve``; leaving the block closes its stdin and waits for its end.

    One thread at a time may wait for answers. ``on_notification`` gets notifications, in that thread.
    """

    def __init__(self, *options: str, on_notification: Callable[[str, Frame], None] | None = None) -> None:
        # -P: modules are not searched for in the working directory.
        self._command = [sys.executable, "-P", "-m", "mlx_sidecar", "serve", "--framing", "lines", *options]
        self.on_notification = on_notification
        self._ids = count(1)
        self._frames: queue.SimpleQueue[Frame | _Cancel | None] = queue.SimpleQueue()

    def __enter__(self) -> Self:
        # A session of its own, because we turn Ctrl-C in a terminal into a cancel.
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        if kind is not None:
            self._process.terminate()
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # the process is gone, and unwritten data with it
            self._process.stdin.close()
        self._process.wait()
        self._reader.join()

    @property
    def pid(self) -> int:
        return self._process.pid

    def call(self, method: str, params: Frame | None = None) -> Frame:
        """Send one request and return its result.

        Raises:
            SidecarError: the answer is an error.
            SidecarGone: the process ended first.
        """
        return self._await(self.send(method, params))

    def call_unless_interrupted(self, method: str, params: Frame | None = None) -> Frame:
        """``call``, in the main thread; Ctrl-C cancels the request, whose answer is then the error ``cancelled``.

        A second Ctrl-C, for a sidecar that does not react, is a KeyboardInterrupt.
        """
        with self._sent_unless_interrupted(method, params) as id_:
            return self._await(id_)

    def send(self, method: str, params: Frame | None = None) -> int:
        """Write a request without waiting; returns its id."""
        id_ = next(self._ids)
        self._request(id_, method, params)
        return id_

    def notify(self, method: str, params: Frame | None = None) -> None:
        self._write({"jsonrpc": "2.0", "method": method, "params": params or {}})

    def generate(self, params: Frame, on_delta: Callable[[Frame], None], watch: Watch | None = None) -> Frame:
        """Stream a generation, in the main thread, and return its result. ``watch`` may ask things meanwhile.

        Ctrl-C cancels it: the result then says ``cancelled`` and holds the text so far. A second Ctrl-C, for a sidecar
        that does not react, is a KeyboardInterrupt.
        """
        stream = f"cli-{next(self._ids)}"

        def hear(method: str, told: Frame) -> None:
            if method == "stream/delta" and told["stream"] == stream:
                on_delta(told)

        with self._sent_unless_interrupted("generate", {**params, "stream": stream}) as id_:
            return self._await(id_, hear, watch)

    def collect(self, ids: list[int]) -> dict[int, Frame]:
        """The results of several requests by id, received in any order."""
        results: dict[int, Frame] = {}
        while len(results) < len(ids):
            frame = self._next()
            if _answers(frame, *ids):
                results[frame["id"]] = _result(frame)
        return results

    @contextmanager
    def _sent_unless_interrupted(self, method: str, params: Frame | None) -> Iterator[int]:
        """Send a request whose answer is awaited in the block, and let the first Ctrl-C cancel it.

        The handler is there before the request is, so that none is left pending. It only puts a note among the frames:
        a cancel that it wrote itself could fall into the middle of a request that is being written.
        """
        id_ = next(self._ids)
        with _on_interrupt(lambda: self._frames.put(_Cancel(id_))):
            self._request(id_, method, params)
            yield id_

    def _await(self, id_: int, hear: Callable[[str, Frame], None] | None = None, watch: Watch | None = None) -> Frame:
        """The result of request ``id_``; notifications before it go to ``on_notification`` and ``hear``."""
        while True:
            try:
                frame = self._next(None if watch is None else watch.every_s)
            except queue.Empty:
                assert watch is not None
                watch.waited(self)
                continue
            if "method" in frame:
                for listener in (self.on_notification, hear):
                    if listener is not None:
                        listener(frame["method"], frame["params"])
            elif _answers(frame, id_):
                return _result(frame)
            elif watch is not None:
                watch.answered(frame)

    def _next(self, timeout_s: float | None = None) -> Frame:
        while isinstance(frame := self._frames.get(timeout=timeout_s), _Cancel):
            self.notify("$/cancelRequest", {"id": frame.id_})  # of one that was answered meanwhile it does nothing
        if frame is None:
            raise SidecarGone(f"mlx-sidecar ended with status {self._process.wait()}")
        return frame

    def _request(self, id_: int, method: str, params: Frame | None) -> None:
        self._write({"jsonrpc": "2.0", "id": id_, "method": method, "params": params or {}})

    def _write(self, frame: Frame) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(frame, allow_nan=False).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise SidecarGone(f"mlx-sidecar ended with status {self._process.wait()}") from None

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                if line.endswith(b"\n"):  # a process that was killed may leave half a line
                    self._frames.put(json.loads(line))
        self._frames.put(None)


@contextmanager
def _on_interrupt(call: Callable[[], None]) -> Iterator[None]:
    """Let the first Ctrl-C run ``call`` instead of raising, which could lose a frame that is being read."""
    before = signal.getsignal(signal.SIGINT)

    def once(*_: object) -> None:
        signal.signal(signal.SIGINT, before)
        call()

    signal.signal(signal.SIGINT, once)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _answers(frame: Frame, *ids: int) -> bool:
    """Whether ``frame`` answers one of ``ids``, or has no id because the sidecar could not read the request."""
    return "method" not in frame and frame["id"] in (*ids, None)


def _result(frame: Frame) -> Frame:
    if "error" in frame:
        raise SidecarError(frame["error"])
    result: Frame = frame["result"]
    return result


__all__ = ["Host", "SidecarError", "SidecarGone", "Watch"]
