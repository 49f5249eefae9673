"""The table of providers and models, as its file has it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Final, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from ..surfaces.surface import Offer
from .capabilities import ANTHROPIC, OPENAI, OPENAI_MORE

LOCAL: Final = "local"
"""The gateway's own sidecar, which is always there."""

Positive = Annotated[float, Field(gt=0, le=86400)]
Text = Annotated[str, Field(min_length=1, max_length=1000)]


class TableError(ValueError):
    """The table does not fit; the message begins with the path to the member at fault."""


class Part(BaseModel):
    """A part of the file, in which there is nothing that is not known."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Provider(Part):
    """The members that all providers have.

    breaker_failures: So many in a row open the breaker.
    open_s: The first wait of an open breaker; it doubles up to a minute.
    probe_s: The time between two health probes while the breaker is open.
    """

    breaker_failures: Annotated[int, Field(ge=1, le=1000)] = 5
    open_s: Annotated[float, Field(gt=0, le=60)] = 1.0
    probe_s: Positive = 1.0


class SidecarProvider(Provider):
    """A further sidecar. ``command`` has the words before ``serve``, ``options`` those behind it."""

    kind: Literal["sidecar"]
    command: list[Text] = []
    options: list[str] = []


class UpstreamProvider(Provider):
    """A server of another, which speaks OpenAI's interface or Anthropic's.

    base_url: With ``/v1`` for OpenAI's, without for Anthropic's, as their clients have it.
    key_env: The environment variable that has the key; without it none is sent.
    connect_timeout_s, first_timeout_s, idle_timeout_s: The longest time until a connection, until the first event of
        an answer that says something, and between two pieces of it.
    answer_limit_bytes: The longest answer.
    cool_down_limit_s: The longest time that it may ask to be left alone.
    connection_limit: The most requests that run at a time.
    accepts, refuses: Parameters that it honours besides the usual ones of its kind, or does not.
    limit_name: OpenAI's name for the bound of an answer.
    max_tokens: The bound of an answer where the client names none, which Anthropic's interface cannot do without.
    """

    kind: Literal["openai", "anthropic"]
    base_url: Text
    key_env: Text | None = None
    connect_timeout_s: Positive = 5.0
    first_timeout_s: Positive = 120.0
    idle_timeout_s: Positive = 60.0
    answer_limit_bytes: Annotated[int, Field(ge=1)] = 64 * 2**20
    cool_down_limit_s: Positive = 300.0
    connection_limit: Annotated[int, Field(ge=1, le=10000)] = 100
    accepts: list[str] = []
    refuses: list[str] = []
    limit_name: Literal["max_completion_tokens", "max_tokens"] = "max_completion_tokens"
    max_tokens: Annotated[int, Field(ge=1)] = 8192

    @field_validator("base_url")
    @classmethod
    def _is_url(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("must begin with http:// or https:// and a host")
        if parts.username or parts.password or parts.query or parts.fragment:
            raise ValueError("must have no user, no query and no fragment; a key is named by key_env")
        return value.rstrip("/")

    @model_validator(mode="after")
    def _members_agree(self) -> UpstreamProvider:
        if self.kind == "anthropic" and self.base_url.endswith("/v1"):
            raise ValueError("base_url: must be without /v1, as Anthropic's clients have it")
        usual, more = (OPENAI, OPENAI_MORE) if self.kind == "openai" else (ANTHROPIC, frozenset[str]())
        for member, names, known in (("accepts", self.accepts, usual | more), ("refuses", self.refuses, usual | more)):
            for name in names:
                if name not in known:
                    raise ValueError(f"{member}: {name!r} is not one of {', '.join(sorted(known))}")
        return self

    @property
    def honoured(self) -> frozenset[str]:
        """The parameters that it honours."""
        usual = OPENAI if self.kind == "openai" else ANTHROPIC
        return (usual | set(self.accepts)) - set(self.refuses)


AnyProvider = SidecarProvider | UpstreamProvider


class Route(Part):
    """One place where a model is. ``model`` is its name there; ``weight`` its share of the first tries."""

    provider: Text
    model: Text
    weight: Annotated[float, Field(ge=0, le=1e6)] | None = None


class Retry(Part):
    """How often a request is sent again: ``ratio`` of all requests and ``reserve``, in ``rounds`` over the chain.

    base_s, longest_s: The bounds of the wait before the second round, and before any.
    """

    ratio: Annotated[float, Field(ge=0, le=1)] = 0.1
    reserve: Annotated[float, Field(ge=0, le=1000)] = 10.0
    rounds: Annotated[int, Field(ge=1, le=5)] = 2
    base_s: Positive = 0.25
    longest_s: Positive = 4.0


class Table:
    """The whole file. ``models`` has the routes of each name, of which aliases are further ones."""

    def __init__(
        self,
        providers: Mapping[str, AnyProvider],
        models: Mapping[str, Sequence[Route]],
        aliases: Mapping[str, str],
        retry: Retry,
    ) -> None:
        self.providers = providers
        self.models = {name: tuple(routes) for name, routes in models.items()}
        self.aliases = aliases
        self.retry = retry

    @property
    def names(self) -> tuple[str, ...]:
        """The names that clients may use."""
        return (*self.models, *self.aliases)

    @property
    def offers(self) -> tuple[Offer, ...]:
        """The models that are offered; the sidecar has no names of its own for these."""
        return tuple(Offer(name, name) for name in self.names)

    def routes(self, name: str) -> tuple[Route, ...]:
        """The routes of a name or an alias; none for one that is not in the table."""
        return self.models.get(self.aliases.get(name, name), ())

    def models_at(self, provider: str) -> list[str]:
        """The names there of the models that a provider is to have."""
        routes = (route for routes in self.models.values() for route in routes)
        return list(dict.fromkeys(route.model for route in routes if route.provider == provider))


def chain(routes: Sequence[Route], draw: float) -> list[Route]:
    """The routes in the order in which they are tried; ``draw`` is a number from 0 up to 1.

    The first is drawn by weight, if any has one, and the others follow as they stand.
    """
    weights = [route.weight or 0.0 for route in routes]
    at, first = draw * sum(weights), 0
    for number, weight in enumerate(weights):
        if weight and at < weight:
            first = number
            break
        at -= weight
    return [routes[first], *routes[:first], *routes[first + 1 :]]
