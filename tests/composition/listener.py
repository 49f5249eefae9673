"""Hears each frame of a sidecar once, in the order of their coming, and acknowledges deltas of windows."""

from __future__ import annotations

from collections import defaultdict

from tests.support.host import Frame
from tests.support.sidecar import Sidecar


class Listener:
    """The messages that were heard so far: ``deltas`` by stream, the streams that were ``interrupted``, and answers.

    Every second delta of the streams ``windows`` is acknowledged, so that a window of two is full before.
    """

    def __init__(self, process: Sidecar) -> None:
        self.deltas: defaultdict[str, list[Frame]] = defaultdict(list)
        self.interrupted: set[str] = set()
        self.windows: set[str] = set()
        self._process = process
        self._answers: dict[int, Frame] = {}
        self._heard = 0

    def answer(self, id_: int) -> Frame:
        return self._answers[id_]

    def result(self, id_: int) -> Frame:
        answer = self.answer(id_)
        assert "result" in answer, answer
        result: Frame = answer["result"]
        return result

    def hear_answers(self, ids: set[int]) -> None:
        """Listen until the requests ``ids`` are answered."""
        while not ids <= self._answers.keys():
            self._hear()

    def hear_beginnings(self, streams: dict[str, int]) -> None:
        """Listen until each of ``streams``, with the id of its request, has a delta or is answered."""
        while not all(stream in self.deltas or id_ in self._answers for stream, id_ in streams.items()):
            self._hear()

    def _hear(self) -> None:
        frame = self._process.wait_for(lambda frame: True, self._heard)
        self._heard += 1
        method, params = frame.get("method"), frame.get("params", {})
        if method is None:
            self._answers[frame["id"]] = frame
        elif method == "stream/interrupted":
            self.interrupted.add(params["stream"])
        elif method == "stream/delta":
            self.deltas[params["stream"]].append(params)
            if params["stream"] in self.windows and params["seq"] % 2:
                self._process.notify("stream/ack", {"stream": params["stream"], "seq": params["seq"]})
