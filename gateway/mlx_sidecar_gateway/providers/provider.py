"""A provider: one engine, whether requests may pass to it now, and the counts of what became of them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import anyio

from mlx_sidecar_client import RpcError, Sidecar, SidecarLost

from ..surfaces.faults import Refused
from .breaker import Breaker, Permit, State
from .limits import Limits
from .table import Provider as Settings
from .upstream import Upstream

log = logging.getLogger("mlx_sidecar_gateway")

_CHECK_S: Final = 1.0


class SidecarEngine:
    """A sidecar: the gateway's own, or a further one. ``sidecar`` raises ``Refused`` until it runs."""

    def __init__(self, kind: Literal["local", "sidecar"], sidecar: Callable[[], Sidecar]) -> None:
        self.kind: Literal["local", "sidecar"] = kind
        self.sidecar = sidecar

    async def is_well(self) -> bool:
        """Whether it answers, and its engine works."""
        try:
            sidecar = self.sidecar()
            with anyio.fail_after(_CHECK_S):
                await sidecar.ping()
        except (Refused, RpcError, SidecarLost, TimeoutError):
            return False
        return sidecar.engine is not None and sidecar.engine.state == "ready"


Engine = SidecarEngine | Upstream


@dataclass
class Counts:
    """The attempts at a provider, those that failed, and those that were not the first of their request."""

    requests: int = 0
    failures: int = 0
    retries: int = 0


@dataclass
class Provider:
    """One entry of the table, or the gateway's own sidecar. ``clock_s`` never goes back."""

    name: str
    settings: Settings
    engine: Engine
    limits: Limits
    clock_s: Callable[[], float]
    counts: Counts = field(default_factory=Counts)

    def __post_init__(self) -> None:
        self.breaker = Breaker(self.settings.breaker_failures, self.settings.open_s)
        self.opened = anyio.Event()

    # Requests.

    def admit(self) -> Permit | None:
        """A permit for one request; None while it is left alone."""
        return None if self.limits.wait_s(self.clock_s()) else self.breaker.admit(self.clock_s())

    @property
    def wait_s(self) -> float:
        """How long it is left alone still, as far as that is known."""
        now_s = self.clock_s()
        return max(self.limits.wait_s(now_s), self.breaker.wait_s(now_s))

    def succeeded(self, permit: Permit) -> None:
        """It answered the request."""
        was = self.breaker.state
        self.breaker.succeeded(permit, self.clock_s())
        if was is not State.CLOSED and self.breaker.state is State.CLOSED:
            log.warning("the provider %r is well again", self.name)

    def failed(self, permit: Permit, because: str, *, is_busy: bool) -> None:
        """It failed the request. One that is busy works, and its breaker stays as it is."""
        self.counts.failures += 1
        if is_busy:
            self.breaker.abandoned(permit)
            return
        was = self.breaker.state
        self.breaker.failed(permit, self.clock_s())
        if was is not State.OPEN and self.breaker.state is State.OPEN:
            log.warning("the provider %r is left alone for a while: %s", self.name, because)
            self.opened.set()

    def abandoned(self, permit: Permit) -> None:
        """The request ended without telling anything of it."""
        self.breaker.abandoned(permit)

    # Health.

    @property
    def is_open(self) -> bool:
        """Whether its breaker is open."""
        return self.breaker.state is State.OPEN

    async def keep_probing(self) -> None:
        """Ask whether it is well, as long as its breaker is open."""
        while True:
            await self.opened.wait()
            self.opened = anyio.Event()
            while self.is_open:
                # A provider that answers probes and fails requests is tried less and less often.
                await anyio.sleep(max(self.settings.probe_s, self.breaker.open_s / 4))
                if await self.engine.is_well():
                    self.breaker.probed_well(self.clock_s())

    async def is_ready(self) -> bool:
        """Whether a request would be sent to it at once."""
        if self.wait_s > 0 or self.is_open:
            return False
        return isinstance(self.engine, Upstream) or await self.engine.is_well()

    def figures(self) -> dict[str, Any]:
        """Its state and its counts."""
        counts = self.counts
        told: dict[str, Any] = {"state": self.breaker.state.value, "wait_s": round(self.wait_s, 3)}
        told |= {"requests": counts.requests, "failures": counts.failures, "retries": counts.retries}
        return told | ({"remaining": self.limits.remaining} if self.limits.remaining else {})
