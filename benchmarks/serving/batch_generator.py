"""mlx-lm's ``BatchGenerator`` in a process of its own, with our BLAS: the in-process yardstick.

Requests come by a pipe. Tokens and their times are reported when a request has ended, so that nothing is written,
encoded or detokenised between steps.

    python -m benchmarks.serving.batch_generator FOLDER
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
import time
from functools import lru_cache
from itertools import count
from pathlib import Path
from typing import Any

from .contender import Contender
from .processes import LineProcess
from .request import ContenderFailed, Flight, Request

Frame = dict[str, Any]


class Batching(Contender):
    """In-process batching as a user of mlx-lm has it. Seeds are not sent: it has none for each request."""

    name = "BatchGenerator in-process"

    def __init__(self, model: Path) -> None:
        self._model = model
        self._flights: dict[int, Flight] = {}
        self._ids = count(1)
        self._process = LineProcess(self._hear, self._fail_all)

    async def open(self) -> None:
        ready = self._flights[0] = Flight(Request([], "", 0))
        await self._process.start(sys.executable, "-m", "benchmarks.serving.batch_generator", str(self._model))
        await ready.result()

    async def close(self) -> None:
        await self._process.stop()

    def start(self, request: Request) -> Flight:
        if request.chat:
            raise ContenderFailed("it has no templates: give it tokens")
        id_ = next(self._ids)
        flight = self._flights[id_] = Flight(request)
        settings = request.settings
        self._process.send({"id": id_, "tokens": request.tokens, "max": request.max_tokens, "settings": settings})
        return flight

    def cancel(self, flight: Flight) -> None:
        id_ = next((id_ for id_, known in self._flights.items() if known is flight), None)
        if id_ is not None:
            self._process.send({"cancel": id_})

    def _hear(self, frame: Frame, at_s: float) -> None:
        flight = self._flights[frame["id"]]
        if "finish" not in frame:
            flight.began.set()
            return
        del self._flights[frame["id"]]
        flight.tokens = frame["tokens"]
        flight.deltas = [(time_s, 1) for time_s in frame["times"]]
        flight.end(frame["at"], frame["finish"], len(flight.tokens))

    def _fail_all(self, why: str) -> None:
        for flight in self._flights.values():
            flight.fail(why)
        self._flights.clear()


class Child:
    """The other side of the pipe."""

    def __init__(self, folder: Path) -> None:
        from mlx_lm.generate import BatchGenerator
        from mlx_lm.utils import load_model

        model, _ = load_model(folder)
        self._generator = BatchGenerator(model)
        self._running: dict[int, tuple[int, list[int], list[float]]] = {}  # by its number: ours, tokens, times
        self._commands: queue.SimpleQueue[Frame | None] = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()

    def run(self) -> None:
        """Run until stdin ends."""
        self._tell(0, "ready", [], [])
        while True:
            while not (self._running and self._commands.empty()):
                command = self._commands.get()
                if command is None:
                    return
                self._obey(command)
            self._step()

    def _obey(self, command: Frame) -> None:
        if "cancel" in command:
            uid = next((uid for uid, (id_, _, _) in self._running.items() if id_ == command["cancel"]), None)
            if uid is not None:
                self._generator.remove([uid])
                id_, tokens, times = self._running.pop(uid)
                self._tell(id_, "cancelled", tokens, times)
            return
        sampler = _sampler(**command["settings"])
        [uid] = self._generator.insert([command["tokens"]], max_tokens=[command["max"]], samplers=[sampler])
        self._running[uid] = (command["id"], [], [])

    def _step(self) -> None:
        _, responses = self._generator.next()
        now = time.monotonic()
        for response in responses:
            id_, tokens, times = self._running[response.uid]
            tokens.append(response.token)
            times.append(now)
            if response.finish_reason is not None:
                del self._running[response.uid]
                self._tell(id_, response.finish_reason, tokens, times)
            elif len(tokens) == 1:
                _write({"id": id_})

    @staticmethod
    def _tell(id_: int, finish: str, tokens: list[int], times: list[float]) -> None:
        _write({"id": id_, "finish": finish, "at": time.monotonic(), "tokens": tokens, "times": times})

    def _read(self) -> None:
        for line in sys.stdin:
            self._commands.put(json.loads(line))
        self._commands.put(None)


@lru_cache(maxsize=64)
def _sampler(temperature: float = 0.0, top_p: float = 0.0, top_k: int = 0, min_p: float = 0.0) -> Any:
    """One for each setting: rows that share a sampler object are sampled in one call, its best case."""
    from mlx_lm.sample_utils import make_sampler

    return make_sampler(temperature, top_p=top_p, top_k=top_k, min_p=min_p)


def _write(frame: Frame) -> None:
    print(json.dumps(frame), flush=True)


def child(folder: Path) -> None:
    from mlx_sidecar.engine.execution.blas import preload

    preload("fast")
    Child(folder).run()
    os._exit(0)  # mlx may abort on the way out of a thread


if __name__ == "__main__":
    child(Path(sys.argv[1]))
