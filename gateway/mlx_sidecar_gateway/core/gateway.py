"""The gateway's state: its sidecar, the models that it offers, and the answers that are on their way."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import anyio

from mlx_sidecar_client import RpcError, Sidecar, SidecarLost

from ..observability.objectives import Objectives
from ..settings import Settings
from ..surfaces.faults import Fault, Refused
from ..surfaces.kept import KeptResponses
from ..surfaces.surface import Offer
from .answers import Answer
from .comebacks import Comebacks
from .faults import SHUTTING_DOWN, STARTING
from .records import Records

if TYPE_CHECKING:
    from ..observability.metrics import Metrics
    from ..providers.directory import Providers

_CHECK_S = 1.0  # for the sidecar to answer a health check


class Gateway:
    """The state that all requests share.

    ``sidecar`` is set once it runs, ``is_loaded`` once the models of the settings are. ``clock_ns`` is that of quotas
    and objectives. ``told`` has more figures by their names. ``providers`` are those of the settings' table. Raises
    ``TableError`` for a key that the environment has not.
    """

    def __init__(self, settings: Settings, clock_ns: Callable[[], int] = time.monotonic_ns) -> None:
        self.settings = settings
        self.clock_ns = clock_ns
        self.comebacks = Comebacks(lambda: clock_ns() / 1e9)
        self.is_loaded = False
        self.is_draining = False
        self._takes_answers = True
        self.answers: set[Answer] = set()
        self.outcomes: Counter[str] = Counter()
        self.ignored: Counter[str] = Counter()
        self.kept = KeptResponses()
        self.records = Records()
        self.spans: Counter[str] = Counter(sent=0, failed=0, dropped=0)
        self.exports: Counter[str] = Counter(sent=0, failed=0)
        self.objectives = Objectives(settings.objectives, lambda: clock_ns() / 1e9)
        self.records.listeners.append(self.objectives.hear)
        self.told: dict[str, Callable[[], object]] = {"objectives": self.objectives.told}
        self.providers = self._made_providers()
        if self.providers is not None:
            self.told["providers"] = self.providers.figures
        self._sidecar: Sidecar | None = None
        self._changed = anyio.Event()

    @property
    def sidecar(self) -> Sidecar:
        """The running sidecar. Raises ``Refused`` until it runs."""
        if self._sidecar is None:
            raise Refused(STARTING)
        return self._sidecar

    @sidecar.setter
    def sidecar(self, sidecar: Sidecar) -> None:
        self._sidecar = sidecar

    @cached_property
    def metrics(self) -> Metrics:
        """Its metrics, which count from the first time that they are asked for."""
        from ..observability.metrics import Metrics  # not at the top: it takes 60 ms

        return Metrics(self)

    def _made_providers(self) -> Providers | None:
        if self.settings.providers is None:
            return None
        # Not at the top: most gateways need no HTTP client.
        from ..providers.directory import Providers

        providers = Providers(self.settings.providers, lambda: self.sidecar, os.environ)
        self.records.listeners.append(providers.count)
        return providers

    # Models.

    async def offers(self) -> Sequence[Offer]:
        """The models that clients may name: those of the settings, or those on this machine that could be loaded."""
        if self.settings.offers:
            return self.settings.offers
        there = (await self.sidecar.local_list()).models
        return [Offer(model.name, model.name) for model in there if model.problem is None]

    def may_name(self, name: str) -> bool:
        """Whether a client may name this model, if it is there."""
        if self.settings.offers:
            return any(name == offer.name for offer in self.settings.offers)
        # Without settings the sidecar knows what there is; but a client is not to look about in the file system.
        return not name.startswith(("/", ".", "~"))

    async def resolve(self, name: str) -> str:
        """The own sidecar's name of the model that a client names. Raises ``Refused``."""
        if not self.may_name(name):
            raise Refused(Fault(404, "model_not_found", f"no model {name!r} here", param="model"))
        if self.providers is not None and self.settings.providers and self.settings.providers.routes(name):
            if (model := self.providers.local_model(name)) is None:
                because = f"{name!r} is at other providers alone, which generate, but do nothing else"
                raise Refused.parameter("model", because, "unsupported_parameter")
            return model
        return next((offer.model for offer in self.settings.models if offer.name == name), name)

    def adapter(self, name: str) -> str | None:
        """The adapter that goes with a model that a client names; None without one."""
        return next((offer.adapter for offer in self.settings.models if offer.name == name), None)

    # Answers.

    async def run(self, answer: Answer) -> None:
        """Run an answer, which the end of the gateway may stop meanwhile, or has stopped."""
        self.answers.add(answer)
        if not self._takes_answers:
            answer.stop(SHUTTING_DOWN)
        try:
            await answer.run()
        finally:
            self.answers.discard(answer)
            self.outcomes[answer.outcome] += 1
            if answer.outcome != "overloaded":
                self.comebacks.ended(is_last=not self.answers)
            if not self.answers:
                self._changed.set()
                self._changed = anyio.Event()

    async def idle(self) -> None:
        """Return when no answer is on its way."""
        while self.answers:
            await self._changed.wait()

    def stop_answers(self) -> None:
        """End all answers with an error, and while it drains those to come, whose requests are still being read."""
        self._takes_answers = not self.is_draining
        for answer in self.answers:
            answer.stop(SHUTTING_DOWN)

    def figures(self) -> dict[str, Any]:
        """The counts, and what ``told`` has."""
        return {**self.counts(), **{name: figures() for name, figures in self.told.items()}}

    def counts(self) -> dict[str, Any]:
        """Counts since the start: ends of answers by their outcome, and ignored parameters by their name."""
        return {"running": len(self.answers), "outcomes": dict(self.outcomes), "ignored": dict(self.ignored)}

    # Health.

    async def is_alive(self) -> bool:
        """Whether the sidecar runs or will run again; False once it was given up."""
        try:
            await self._ping()
        except SidecarLost:
            return False
        return True

    async def is_ready(self) -> bool:
        """Whether a request would be worked on at once, by the sidecar or by another provider."""
        if self._sidecar is None or self.is_draining or not self.is_loaded:
            return False
        if self.providers is None:
            return await self._sidecar_is_ready()
        is_asked = self.providers.uses_local or bool(self.settings.models)
        return (is_asked and await self._sidecar_is_ready()) or await self.providers.is_ready()

    async def _sidecar_is_ready(self) -> bool:
        if self._sidecar is None:
            return False
        engine = self._sidecar.engine
        try:
            return engine is not None and engine.state == "ready" and await self._ping()
        except (SidecarLost, RpcError):
            return False

    async def _ping(self) -> bool:
        """Whether the sidecar answered within ``_CHECK_S``."""
        if self._sidecar is None:
            return False
        with anyio.move_on_after(_CHECK_S):
            await self._sidecar.ping()
            return True
        return False
