"""One turn of the engine's loop, in this process on the fake engine: what a stream pays for others that are paused.

A turn decides, lets the fake device decode one token of each stream that runs, tells the front and hears it. The front
here is a list of messages. Paused streams hold their caches and their bytes in the engine's books, as those of hosts
that have stopped reading do.
"""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING, cast

from mlx_sidecar.engine.assembly import assemble
from mlx_sidecar.engine.fake.fake_engine import FakeBackend
from mlx_sidecar.engine.inbox import Inbox
from mlx_sidecar.engine.outbox import LinkOutbox
from mlx_sidecar.engine.scheduling.scheduler import Limits
from mlx_sidecar.link.control_messages import Load
from mlx_sidecar.link.messages import Generate, Pause, Sampling, Submit, ToEngine

from .measure import Row, interleaved, table

if TYPE_CHECKING:
    import socket

MODEL = "fake?tokens=100000000&context=100000000&token_bytes=10"
PAUSED = 1024
TURNS = 500
ROUNDS = 9
GIVEN_BYTES = 1 << 40


class _Loop:
    """An engine with ``paused`` streams that hold a cache, and ``decoding`` ones beside them."""

    def __init__(self, paused: int, decoding: int) -> None:
        self._heard: list[ToEngine] = []
        self._engine = assemble(
            LinkOutbox(cast("socket.socket", self)), cast("Inbox", self), FakeBackend(), Limits(), GIVEN_BYTES
        )
        self._turn(Load(1, MODEL, ""))
        for _ in range(8):  # a step of the load each
            self._turn()
        for seq in range(1, paused + 1):
            self._turn(self._submit(seq))
            self._turn()  # it is admitted
            self._turn(Pause(seq))
        for seq in range(paused + 1, paused + decoding + 1):
            self._turn(self._submit(seq))

    def turn_s(self) -> float:
        """Seconds of a turn, the median of some."""
        return statistics.median(self._turn() for _ in range(TURNS))

    def _turn(self, *messages: ToEngine) -> float:
        self._heard += messages
        began = time.perf_counter()
        self._engine.turn()
        return time.perf_counter() - began

    def _submit(self, seq: int) -> Submit:
        return Submit(seq, MODEL, [1] * 16, Generate(Sampling(), [], max_tokens=1 << 20))

    # Stands in for the link and the inbox of the engine.

    def sendall(self, data: bytes) -> None:
        """The front reads everything."""

    def take(self, timeout_s: float) -> list[ToEngine]:
        messages, self._heard = self._heard, []
        return messages


def run() -> list[Row]:
    one, many, full = _Loop(1, 1), _Loop(PAUSED, 1), _Loop(0, Limits().running)
    for loop in (one, many, full):
        loop.turn_s()
    many_s, one_s, ratio = interleaved(many.turn_s, one.turn_s, ROUNDS)
    full_s = statistics.median(full.turn_s() for _ in range(ROUNDS))
    figure = f"{ratio:.2f}× ({many_s * 1e6:.0f} against {one_s * 1e6:.0f} µs)"
    return [
        Row(f"turn with {PAUSED:,} paused streams beside one that decodes, against one paused", figure, "≤ 1.5×"),
        Row(f"turn in which {Limits().running} streams decode and none is paused", f"{full_s * 1e6:.0f} µs"),
    ]


if __name__ == "__main__":
    print(table(run()))
