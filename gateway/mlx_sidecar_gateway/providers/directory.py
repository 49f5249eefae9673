"""The directory of providers: who has which model, how a request goes through its chain, and what became of it."""

from __future__ import annotations

import random
import re
import secrets
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any, Final

import anyio

from mlx_sidecar_client import Sidecar
from mlx_sidecar_client.protocol.errors import UnsupportedParameter

from ..core.caller import Caller
from ..core.records import Record
from ..core.source import Source
from ..surfaces.faults import Fault, Refused
from ..surfaces.surface import Generation, Question, Shared
from .asking import Ask
from .failures import LOOP, STATUS
from .limits import Limits
from .provider import Provider, SidecarEngine
from .retry_budget import RetryBudget
from .routed import Candidate, Retrying, RoutedSource
from .table import LOCAL, SidecarProvider, Table, TableError, UpstreamProvider, chain
from .table import Provider as ProviderSettings
from .upstream import VIA, Upstream

_MOST_HOPS: Final = 8
_ID: Final = re.compile(r"[0-9A-Za-z-]{1,64}")
_STARTING: Final = Fault(503, "starting", "a provider is starting", retryable=True, retry_after_s=1.0)


class Providers:
    """All providers of a table. ``local`` gives the gateway's own sidecar, and raises ``Refused`` until it runs.

    environment: Has the keys that the table names. Raises ``TableError`` for one that is not there.
    draw: Numbers from 0 to 1.
    """

    def __init__(
        self,
        table: Table,
        local: Callable[[], Sidecar],
        environment: Mapping[str, str],
        clock_s: Callable[[], float] = time.monotonic,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self.table = table
        self.id = secrets.token_hex(8)
        self._clock_s, self._draw = clock_s, draw
        self._sidecars: dict[str, Sidecar] = {}
        self._tokens: dict[str, dict[str, dict[str, int]]] = {}
        retry = table.retry
        budget = RetryBudget(retry.ratio, retry.reserve)
        self._retrying = Retrying(budget, draw, retry.rounds, retry.base_s, retry.longest_s)
        own = Provider(LOCAL, ProviderSettings(), SidecarEngine("local", local), Limits(), clock_s)
        self.providers = {LOCAL: own}
        for name, settings in table.providers.items():
            self.providers[name] = self._provider(name, settings, environment)

    # Requests.

    def check_hops(self, headers: Mapping[str, str]) -> str:
        """The ids of the gateways that a request came through, and ours. Raises ``Refused`` if it comes round again."""
        before = [each.strip() for each in headers.get(VIA, "").split(",") if each.strip()]
        if not all(_ID.fullmatch(each) for each in before):
            raise Refused.parameter(VIA, "must be ids of gateways, with commas between them")
        if self.id in before or len(before) >= _MOST_HOPS:
            message = "the request comes round to a gateway that it has been to, or has come through too many"
            raise Refused(Fault(STATUS[LOOP], LOOP, message))
        return ", ".join([*before, self.id])

    def candidates(self, name: str) -> list[Candidate]:
        """Where a model is, in the order in which this request tries it; none for one that is not in the table."""
        if not (routes := self.table.routes(name)):
            return []
        return [Candidate(self.providers[route.provider], route.model) for route in chain(routes, self._draw())]

    def local_model(self, name: str) -> str | None:
        """The own sidecar's name of a model, for requests that no other provider answers; None if it has it not."""
        routes = self.table.routes(name)
        return next((route.model for route in routes if route.provider == LOCAL), None)

    def source(
        self,
        candidates: Sequence[Candidate],
        shared: Shared,
        caller: Caller,
        question: Question,
        generation: Generation,
        options: Mapping[str, Any],
        record: Record,
        *,
        echo_text: bool,
    ) -> RoutedSource:
        """The generation of a request, which begins when it is first used. Raises ``Refused`` for a loop."""
        via = self.check_hops(question.headers)
        ask = Ask.of(shared, caller, question, generation, options, via=via, echo_text=echo_text)
        deadline_s = options.get("deadline_s")
        return RoutedSource(candidates, partial(self._open, ask), self._retrying, record, deadline_s)

    async def _open(self, ask: Ask, candidate: Candidate) -> Source:
        engine = candidate.provider.engine
        options = await ask.options_at(candidate)
        if isinstance(engine, Upstream):
            wish = engine.wish(options, ask.assumed, ranks=ask.ranks)
            return engine.generate(candidate.model, wish, ask.via)
        speculation = options.get("speculation")
        if engine.kind == "sidecar" and isinstance(speculation, Mapping) and "draft" in speculation:
            raise UnsupportedParameter("speculation", "drafts are there for the gateway's own sidecar alone")
        return engine.sidecar().generate(candidate.model, **options, echo_text=ask.echo_text)

    # Counting.

    def count(self, record: Record) -> None:
        """Take the record of a request that has ended; of an answer that was cut off only what came is known."""
        if not record.generates or record.provider not in self.providers:
            return
        usage = record.usage
        prompt, completion = (0, record.tokens) if usage is None else (usage.prompt_tokens, usage.completion_tokens)
        if prompt or completion:
            told = self._tokens.setdefault(record.provider, {}).setdefault(record.key, {"prompt": 0, "completion": 0})
            told["prompt"] += prompt
            told["completion"] += completion

    def figures(self) -> dict[str, Any]:
        """By provider its state, its counts, and the tokens of each key."""
        return {
            name: {**provider.figures(), "tokens": self._tokens.get(name, {})}
            for name, provider in self.providers.items()
        }

    # Running.

    async def is_ready(self) -> bool:
        """Whether any route but the gateway's own leads to a provider that would take a request at once."""
        names = {route.provider for routes in self.table.models.values() for route in routes} - {LOCAL}
        for name in sorted(names):
            if await self.providers[name].is_ready():
                return True
        return False

    @property
    def uses_local(self) -> bool:
        """Whether a route leads to the gateway's own sidecar."""
        return bool(self.table.models_at(LOCAL))

    @asynccontextmanager
    async def running(self, command: Sequence[str]) -> AsyncIterator[None]:
        """Further sidecars run, with their models loaded, and breakers are probed, in this block.

        ``command`` is that of sidecars which name none. Raises as ``Sidecar.spawn`` and ``Sidecar.load``.
        """
        async with AsyncExitStack() as stack:
            for provider in self.providers.values():
                if isinstance(provider.engine, Upstream):
                    stack.push_async_callback(provider.engine.close)
            for name, settings in self.table.providers.items():
                if isinstance(settings, SidecarProvider):
                    words = settings.command or command or None
                    sidecar = await stack.enter_async_context(Sidecar.spawn(command=words, options=settings.options))
                    for model in self.table.models_at(name):
                        await sidecar.load(model, pin=True)
                    self._sidecars[name] = sidecar
            tasks = await stack.enter_async_context(anyio.create_task_group())
            for provider in self.providers.values():
                tasks.start_soon(provider.keep_probing)
            yield
            tasks.cancel_scope.cancel()

    def _provider(
        self, name: str, settings: SidecarProvider | UpstreamProvider, environment: Mapping[str, str]
    ) -> Provider:
        if isinstance(settings, SidecarProvider):
            engine = SidecarEngine("sidecar", partial(self._sidecar, name))
            return Provider(name, settings, engine, Limits(), self._clock_s)
        key = None
        if settings.key_env is not None and not (key := environment.get(settings.key_env)):
            raise TableError(f"providers.{name}.key_env: the environment has no {settings.key_env}")
        limits = Limits(settings.cool_down_limit_s)
        return Provider(name, settings, Upstream(name, settings, key, limits, self._clock_s), limits, self._clock_s)

    def _sidecar(self, name: str) -> Sidecar:
        if name not in self._sidecars:
            raise Refused(_STARTING)
        return self._sidecars[name]
