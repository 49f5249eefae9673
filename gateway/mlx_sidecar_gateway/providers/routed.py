"""A routed source is one generation that goes to the first provider of its chain which begins to answer it.

A chain is gone through in its order. Until the first word a failure leads to the next provider, within the retry
budget; behind it, it ends the answer. What one provider cannot do leads to the next as well, and costs nothing.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

import anyio

from mlx_sidecar_client import GenerateResult, RpcError, SidecarLost
from mlx_sidecar_client.stream import PassOn

from ..core.faults import DEADLINE
from ..core.records import Record
from ..core.source import Source
from ..surfaces.faults import Fault, Refused
from .breaker import Permit
from .failures import STATUS, UNAVAILABLE, Verdict, verdict_of
from .provider import Provider
from .retry_budget import RetryBudget, full_jitter_s

if TYPE_CHECKING:
    from collections.abc import Iterator

Got = TypeVar("Got")
Failure = RpcError | SidecarLost | Refused

_LEAST_WAIT_S = 1.0


@dataclass(frozen=True)
class Candidate:
    """A provider, and the model's name there."""

    provider: Provider
    model: str


Open = Callable[[Candidate], Awaitable[Source]]
"""Makes the generation of one provider; raises what it cannot do."""


@dataclass(frozen=True)
class Retrying:
    """How attempts go on: ``rounds`` over the chain, and a wait before each but the first."""

    budget: RetryBudget
    draw: Callable[[], float]
    rounds: int
    base_s: float
    longest_s: float

    def wait_s(self, round_: int) -> float:
        return full_jitter_s(round_, self.base_s, self.longest_s, self.draw)


@dataclass
class _Troubles:
    """The reasons why there is no answer yet, and the candidates that may be asked again."""

    cannot: Failure | None = None
    failure: Failure | None = None
    waits_s: list[float] = field(default_factory=list)
    again: list[Candidate] = field(default_factory=list)

    def raised(self) -> Failure:
        """The error for the client: a failure, or that all are left alone, or that none can do it."""
        if self.failure is not None:
            return self.failure
        if self.waits_s or self.cannot is None:
            wait_s = max(min(self.waits_s, default=0.0), _LEAST_WAIT_S)
            message = "no provider of this model can be asked now"
            return Refused(Fault(STATUS[UNAVAILABLE], UNAVAILABLE, message, retryable=True, retry_after_s=wait_s))
        return self.cannot


@dataclass
class _Attempt:
    """One try at one provider; it tells the provider once how it went."""

    provider: Provider
    permit: Permit
    source: Source
    is_told: bool = False

    @property
    def has_begun(self) -> bool:
        """Whether something of the answer has come, so that it is never begun anew elsewhere."""
        return self.source.delivered_tokens > 0

    def succeeded(self) -> None:
        if not self.is_told:
            self.is_told = True
            self.provider.succeeded(self.permit)

    def failed(self, error: Failure) -> None:
        if not self.is_told:
            self.is_told = True
            _tell(self.provider, self.permit, error)

    async def close(self, error: BaseException | None) -> None:
        if not self.is_told:
            self.is_told = True
            self.provider.abandoned(self.permit)
        await self.source.__aexit__(None if error is None else type(error), error, None)


def _tell(provider: Provider, permit: Permit, error: Failure) -> None:
    """Tell a provider what an error says of it."""
    verdict = verdict_of(error)
    if verdict in (Verdict.BUSY, Verdict.BROKEN):
        provider.failed(permit, str(error), is_busy=verdict is Verdict.BUSY)
    else:
        provider.succeeded(permit)


class RoutedSource:
    """One generation, at whichever provider takes it. ``deadline_s`` is the time that it may take."""

    def __init__(
        self, candidates: Sequence[Candidate], open_: Open, retrying: Retrying, record: Record, deadline_s: float | None
    ) -> None:
        self._candidates = candidates
        self._open = open_
        self._retrying = retrying
        self._record = record
        self._deadline_s = None if deadline_s is None else anyio.current_time() + deadline_s
        self._attempt: _Attempt | None = None
        self._sent = 0

    @property
    def result(self) -> GenerateResult:
        assert self._attempt is not None
        return self._attempt.source.result

    @property
    def has_result(self) -> bool:
        return self._attempt is not None and self._attempt.source.has_result

    @property
    def delivered_tokens(self) -> int:
        return 0 if self._attempt is None else self._attempt.source.delivered_tokens

    async def take_plain(self, pass_on: PassOn | None = None) -> list[dict[str, Any]]:
        with self._in_time():
            if self._attempt is None:
                return await self._begin(_deltas)
            attempt = self._attempt
            try:
                deltas = await attempt.source.take_plain(pass_on)
            except (RpcError, SidecarLost, Refused) as error:
                attempt.failed(error)
                raise
            if not deltas:
                attempt.succeeded()
            return deltas

    def __await__(self) -> Generator[Any, None, GenerateResult]:
        return self._whole().__await__()

    async def _whole(self) -> GenerateResult:
        with self._in_time():
            return await self._begin(_result)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None
    ) -> None:
        if self._attempt is not None:
            await self._attempt.close(value)

    async def _begin(self, begin: Callable[[Source], Awaitable[Got]]) -> Got:
        """The first part of an answer, or all of it, from the first provider that gives it."""
        self._retrying.budget.request()
        candidates, troubles = self._candidates, _Troubles()
        for round_ in range(self._retrying.rounds):
            if round_:
                candidates, troubles.again = troubles.again, []
                if not candidates:
                    break
                await anyio.sleep(self._retrying.wait_s(round_))
            for candidate in candidates:
                if (attempt := await self._admitted(candidate, troubles)) is None:
                    continue
                try:
                    return await self._tried(attempt, begin)
                except (RpcError, SidecarLost, Refused) as error:
                    if attempt.has_begun:
                        raise
                    self._judge(candidate, error, troubles)
        raise troubles.raised()

    async def _admitted(self, candidate: Candidate, troubles: _Troubles) -> _Attempt | None:
        """An attempt at a provider that may be asked now, and can do it. Raises once the budget is used up."""
        provider = candidate.provider
        if (permit := provider.admit()) is None:
            troubles.waits_s.append(provider.wait_s)
            return None
        try:
            source = await self._open(candidate)
        except (RpcError, SidecarLost, Refused) as error:
            if verdict_of(error) in (Verdict.BUSY, Verdict.BROKEN):
                _tell(provider, permit, error)
            else:  # nothing was sent, which says nothing of it
                provider.abandoned(permit)
            self._judge(candidate, error, troubles)
            return None
        except BaseException:
            provider.abandoned(permit)
            raise
        if self._sent and not self._retrying.budget.take():
            provider.abandoned(permit)
            raise troubles.raised()
        provider.counts.requests += 1
        provider.counts.retries += self._sent > 0
        self._sent += 1
        self._record.provider = provider.name
        return _Attempt(provider, permit, source)

    async def _tried(self, attempt: _Attempt, begin: Callable[[Source], Awaitable[Got]]) -> Got:
        self._attempt = attempt
        await attempt.source.__aenter__()
        try:
            got = await begin(attempt.source)
        except (RpcError, SidecarLost, Refused) as error:
            attempt.failed(error)
            if not attempt.has_begun:
                self._attempt = None
                self._sent -= verdict_of(error) is Verdict.CANNOT
                await attempt.close(error)
            raise
        if attempt.source.has_result:
            attempt.succeeded()
        return got

    def _judge(self, candidate: Candidate, error: Failure, troubles: _Troubles) -> None:
        """Note a failure that leads to the next provider. Raises one that ends the request."""
        verdict = verdict_of(error)
        if verdict is Verdict.FINAL:
            raise error
        if verdict is Verdict.CANNOT:
            troubles.cannot = troubles.cannot or error
            return
        troubles.failure = error
        if verdict is Verdict.BROKEN and not (isinstance(error, Refused) and not error.fault.retryable):
            troubles.again.append(candidate)

    @contextmanager
    def _in_time(self) -> Iterator[None]:
        """Raises ``Refused`` at the deadline."""
        left_s = None if self._deadline_s is None else max(0.0, self._deadline_s - anyio.current_time())
        with anyio.move_on_after(left_s) as scope:
            yield
        if scope.cancelled_caught:
            raise Refused(DEADLINE)


async def _deltas(source: Source) -> list[dict[str, Any]]:
    return await source.take_plain()


async def _result(source: Source) -> GenerateResult:
    return await source
