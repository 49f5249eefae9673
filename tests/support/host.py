"""A host that asks and waits, whatever is at the other end. Every frame is checked against the committed schema."""

from __future__ import annotations

import faulthandler
import json
from abc import abstractmethod
from collections.abc import Callable
from itertools import count
from typing import IO, Any

from .byte_host import PATIENCE_S, ByteHost
from .frames import check_outgoing

Frame = dict[str, Any]


class Host(ByteHost):
    """Keeps all frames, in the order of their coming; tests wait for the ones they expect."""

    def __init__(self, stdin: IO[bytes], stdout: IO[bytes], framing: str) -> None:
        self.frames: list[Frame] = []
        self._ids = count(1)
        super().__init__(stdin, stdout, framing)

    # Writing.

    def send(self, frame: Any) -> None:
        self.write(self.framed(json.dumps(frame).encode()))

    def request(self, method: str, params: Any = None, id_: Any = None) -> Any:
        """Send a request, return its id."""
        id_ = next(self._ids) if id_ is None else id_
        self.send({"jsonrpc": "2.0", "id": id_, "method": method, **({} if params is None else {"params": params})})
        return id_

    def requests(self, method: str, params: list[Any]) -> list[int]:
        """Send requests in one write, return their ids."""
        ids = [next(self._ids) for _ in params]
        frames = (
            {"jsonrpc": "2.0", "id": id_, "method": method, "params": own} for id_, own in zip(ids, params, strict=True)
        )
        self.write(b"".join(self.framed(json.dumps(frame).encode()) for frame in frames))
        return ids

    def notify(self, method: str, params: Any = None) -> None:
        self.send({"jsonrpc": "2.0", "method": method, **({} if params is None else {"params": params})})

    # Waiting.

    def wait_for(self, wanted: Callable[[Frame], bool], start: int = 0) -> Frame:
        """The first frame, from number ``start`` on, that is wanted."""
        seen = start

        def found() -> Frame | None:
            nonlocal seen
            while seen < len(self.frames):
                seen += 1
                if wanted(self.frames[seen - 1]):
                    return self.frames[seen - 1]
            return None

        with self._changed:
            frame: Frame | None = None

            def settled() -> bool:
                nonlocal frame
                frame = found()
                return frame is not None or self.ended

            if not self._changed.wait_for(settled, PATIENCE_S):
                faulthandler.dump_traceback(all_threads=True)  # of a hang in this process the stacks are all there is
                raise AssertionError(f"no such frame within {PATIENCE_S} s")
        assert frame is not None, f"the sidecar ended with {self.exit_status()} and without that frame"
        return frame

    def answer(self, id_: Any) -> Frame:
        return self.wait_for(lambda frame: "method" not in frame and frame.get("id") == id_)

    def result(self, id_: Any) -> Frame:
        answer = self.answer(id_)
        assert "result" in answer, answer
        result: Frame = answer["result"]
        return result

    def call(self, method: str, params: Any = None) -> Frame:
        return self.result(self.request(method, params))

    def error(self, method: str, params: Any = None) -> Frame:
        answer = self.answer(self.request(method, params))
        assert "error" in answer, answer
        error: Frame = answer["error"]
        return error

    def notification(self, method: str, **members: Any) -> Frame:
        """The first notification of this method whose params have these members."""
        frame = self.wait_for(lambda f: f.get("method") == method and members.items() <= f["params"].items())
        params: Frame = frame["params"]
        return params

    def initialize(self, **members: Any) -> Frame:
        """Say hello: from here on the sidecar tells of its engine's state, the present one first."""
        return self.call("initialize", {"protocol_version": 1, "client": {"name": "tests"}, **members})

    def deltas(self, stream: str | int) -> list[Frame]:
        """Deltas of a stream so far, in the order of their coming."""
        with self._changed:
            return [
                frame["params"]
                for frame in self.frames
                if frame.get("method") == "stream/delta" and frame["params"]["stream"] == stream
            ]

    # Ending.

    @abstractmethod
    def exit_status(self) -> int:
        """Wait until the sidecar has left; the status it left with."""

    def engine_pid(self) -> int:
        """The engine there is; one that is being started again is waited for, after ``initialize``."""
        stats = self.call("stats")
        restarts, engine = stats["health"]["restarts"], stats["engine"]
        if "pid" not in engine:
            engine = self.notification("engine/state", state="ready", restarts=restarts)
        pid: int = engine["pid"]
        return pid

    @abstractmethod
    def signal_engine(self, number: int) -> None:
        """Send the engine there is a signal."""

    def end_engine(self, number: int) -> None:
        """Kill the engine there is; returns when the front has noticed. Only after ``initialize``."""
        restarts = self.call("stats")["health"]["restarts"]
        self.signal_engine(number)
        self.notification("engine/state", state="lost", restarts=restarts)

    def check(self) -> None:
        """Hold all that was heard against the schema."""
        for frame in self.frames:
            check_outgoing(frame)

    def _heard(self, bodies: list[bytes]) -> None:
        for body in bodies:
            frame = json.loads(body)
            self.frames.extend(frame if isinstance(frame, list) else [frame])
