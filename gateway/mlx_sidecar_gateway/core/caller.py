"""Callers: the holder of a key, or anybody where no key is asked for, and the gateway as each of them sees it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

from mlx_sidecar_client import Sidecar

from ..surfaces.faults import Fault, Refused
from ..surfaces.kept import KeptResponses
from ..surfaces.surface import Offer, Shared
from .keys import ANYBODY, Key, is_at_most
from .quota import Quota


class Caller:
    """The holders of one key, and the quotas that they share."""

    def __init__(self, key: Key, clock_ns: Callable[[], int]) -> None:
        self.key = key
        self.quota = Quota(key, clock_ns)

    @property
    def is_alone(self) -> bool:
        """Whether there is no other caller, as where no key is asked for."""
        return self.key is ANYBODY

    def may_name(self, model: str) -> bool:
        """Whether the key is for this model, too."""
        return self.key.models is None or model in self.key.models

    def priority(self, asked: str | None, header: str) -> str:
        """The priority of a request that has ``asked`` in its ``header``. Raises ``Refused`` for one that is too high.

        It is not lowered, because a client that asks for it would wait in vain to be preferred.
        """
        if asked is None:
            return self.key.priority
        if not is_at_most(asked, self.key.highest_priority):
            because = f"the key {self.key.name!r} may ask for {self.key.highest_priority} at most"
            raise Refused(Fault(403, "priority_refused", f"{header}: {because}", param=header))
        return asked


class CallersBackend:
    """A ``Backend`` with those models that its caller may name. ``computed`` are the tokens of this request."""

    def __init__(self, shared: Shared, caller: Caller) -> None:
        self._shared = shared
        self._caller = caller
        self.computed = 0

    @property
    def engine(self) -> Literal["local", "sidecar", "upstream"]:
        return "local"

    def count(self, tokens: int) -> None:
        self.computed += tokens

    @property
    def kept(self) -> KeptResponses:
        return self._shared.kept

    @property
    def sidecar(self) -> Sidecar:
        return self._shared.sidecar

    def may_name(self, name: str) -> bool:
        return self._caller.may_name(name) and self._shared.may_name(name)

    async def offers(self) -> Sequence[Offer]:
        return [offer for offer in await self._shared.offers() if self.may_name(offer.name)]

    async def resolve(self, name: str) -> str:
        if not self.may_name(name):
            # As if it were not there: the key tells its holder nothing of other models.
            raise Refused(Fault(404, "model_not_found", f"no model {name!r} here", param="model"))
        return await self._shared.resolve(name)

    async def resolve_bare(self, name: str) -> str:
        if self.adapter(name) is not None:
            because = f"{name!r} is a model with an adapter, which goes with generated text alone"
            raise Refused.parameter("model", because, "unsupported_parameter")
        return await self.resolve(name)

    def adapter(self, name: str) -> str | None:
        return self._shared.adapter(name)
