"""From a request to generate, as a surface has read it, to what each provider is asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, Self

from mlx_sidecar_client import Sidecar

from ..core.caller import Caller, CallersBackend
from ..core.defaults import NAMES, says
from ..core.headers import PRIORITY
from ..surfaces.faults import Refused
from ..surfaces.surface import Generation, Question, Shared
from .routed import Candidate
from .upstream import Upstream

# Surfaces and the gateway's owner fill these in where a client says nothing.
_ASSUMED: Final = (*NAMES, "repeat_guard")


class RoutedBackend(CallersBackend):
    """The gateway as a request sees it that one candidate is to answer."""

    def __init__(self, shared: Shared, caller: Caller, candidate: Candidate) -> None:
        super().__init__(shared, caller)
        self._engine = candidate.provider.engine

    @property
    def engine(self) -> Literal["local", "sidecar", "upstream"]:
        return self._engine.kind

    @property
    def sidecar(self) -> Sidecar:
        if isinstance(self._engine, Upstream):
            because = f"the provider {self._engine.name!r} generates, but does nothing else"
            raise Refused.parameter("model", because, "unsupported_parameter")
        return self._engine.sidecar()


@dataclass(frozen=True)
class Ask:
    """A request to generate, before it is known which provider answers it.

    options: Those of ``Sidecar.generate``.
    assumed: The names of those that the client did not name.
    ranks: Whether the client itself named a priority.
    via: The gateways that the request came through.
    """

    shared: Shared
    caller: Caller
    generation: Generation
    options: Mapping[str, Any]
    assumed: frozenset[str]
    ranks: bool
    via: str
    echo_text: bool

    @classmethod
    def of(
        cls,
        shared: Shared,
        caller: Caller,
        question: Question,
        generation: Generation,
        options: Mapping[str, Any],
        *,
        via: str,
        echo_text: bool,
    ) -> Self:
        """The request of ``question``, which its surface has read as ``generation``."""
        paths = {name: generation.names.get(name, name).split(".") for name in _ASSUMED}
        assumed = frozenset(name for name, path in paths.items() if not says(question.body, path))
        ranks = PRIORITY in question.headers
        return cls(shared, caller, generation, options, assumed, ranks, via, echo_text)

    async def options_at(self, candidate: Candidate) -> dict[str, Any]:
        """All options of the generation, if this candidate is to answer it. Raises what it cannot do."""
        prepare = self.generation.prepare
        if prepare is None:
            return dict(self.options)
        backend = RoutedBackend(self.shared, self.caller, candidate)
        return {**self.options, **await prepare(backend, candidate.model)}
