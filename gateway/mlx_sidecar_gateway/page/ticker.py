"""One ticker for all who look: it asks the sidecar once a second, and not at all while nobody looks."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

import anyio
import orjson

from mlx_sidecar_client import RpcError, SidecarLost

from ..core.gateway import Gateway
from ..surfaces.faults import Refused
from .live import Sample, own, shared
from .recent import Recent, is_shown

PERIOD_S = 1.0
_ASK_S = 2.0  # for the sidecar to answer, which it does while its engine starts again
_WINDOW_S = 5.0  # the seconds over which the rate of tokens is taken


class Ticker:
    """The last sample of the sidecar, its number, and the snapshots that are made of it."""

    def __init__(self, gateway: Gateway, recent: Recent, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._gateway = gateway
        self._recent = recent
        self._clock_s = clock_s
        self._turn = anyio.Lock()
        self._samples: deque[Sample] = deque()
        self._number = 0
        self._shared = b""

    async def after(self, number: int) -> int:
        """Return the number of a sample that is newer than this one. With 0 it may be up to 1 s old."""
        # Of all viewers the first in the lock asks. It may be cancelled there, and then the next one asks.
        async with self._turn:
            now_s = self._clock_s()
            due_s = self._samples[-1].at_s + PERIOD_S if self._samples else now_s
            if self._number <= number or (number == 0 and due_s <= now_s):
                await anyio.sleep(max(0.0, due_s - now_s))
                self._take(await self._ask())
            return self._number

    def snapshot(self, key: str) -> bytes:
        """The JSON of the last sample with the requests of one key."""
        running = [
            record for record in self._gateway.records.running.values() if is_shown(record) and record.key == key
        ]
        requests = own(running, self._recent.of(key), time.monotonic())
        return orjson.dumps({"shared": orjson.Fragment(self._shared), "requests": requests})

    async def _ask(self) -> Sample:
        problem = "the sidecar does not answer"
        with anyio.move_on_after(_ASK_S):
            try:
                sidecar = self._gateway.sidecar
                stats = await sidecar.stats()
                return Sample(self._clock_s(), stats, await sidecar.cache_stats())
            except Refused as refused:
                problem = refused.fault.message
            except (RpcError, SidecarLost) as error:
                problem = str(error)
        return Sample(self._clock_s(), problem=problem)

    def _take(self, sample: Sample) -> None:
        self._samples.append(sample)
        while self._samples[0].at_s < sample.at_s - _WINDOW_S - PERIOD_S / 2:
            self._samples.popleft()
        self._number += 1
        told = shared(
            self._samples, time.time(), **self._gateway.counts(), first_tokens_s=self._recent.first_tokens_s()
        )
        self._shared = orjson.dumps(told)
