"""A surface is made of routes, readers of requests, and encoders of answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from mlx_sidecar_client import GenerateResult, Sidecar

from .allowance import Allowance, openai_headers
from .events import Delta
from .faults import Fault
from .kept import KeptResponses
from .parameters import Parameters

EVENT_STREAM = "text/event-stream"
JSON = "application/json"
NDJSON = "application/x-ndjson"


@dataclass(frozen=True)
class Question:
    """One request, as surfaces see it.

    id: 32 random hexadecimal digits, for the ids in the answer; the answer's ``x-request-id``, too.
    unix_s: When it came.
    model: The name that the client gave, or that of the default model if it gave none.
    headers: By lower-case name.
    path: The variable parts of the path.
    query: What stands behind ``?``, by name; of a name that is there twice the last value.
    body: The parsed body, which is an object; empty where the route takes none.
    caller: The name of the client's key; empty where no key is asked for.
    options: Those of the sidecar that its headers and its key ask for, where the route computes.
    defaults: Options of the sidecar for answers whose requests say nothing of them; the core adds them.
    """

    id: str
    unix_s: int
    model: str
    headers: Mapping[str, str] = field(default_factory=dict)
    path: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, Any] = field(default_factory=dict)
    caller: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)


class Encoder(Protocol):
    """Writes one streamed answer. Pure but for its own state: it knows no clock and does no I/O.

    The core calls ``delta`` and ``ping`` in any order, then ``end`` or ``error`` once. Whatever must precede the first
    delta (``message_start``, a first chunk with the role) the encoder writes in front of the first bytes that need it.
    """

    def delta(self, event: Delta) -> bytes:
        """The bytes of one event; b"" where the surface has no place for it."""
        ...

    def ping(self) -> bytes:
        """Bytes that keep a client from taking silence for a fault, and mean nothing."""
        ...

    def end(self, result: GenerateResult) -> bytes:
        """The whole terminal sequence. ``finish_reason`` is one of ``events.WHOLE``."""
        ...

    def error(self, fault: Fault) -> bytes:
        """The surface's error event, after which nothing follows."""
        ...


WayOf = Callable[[Sequence[str]], str | None]
"""Gives the client's way to a part of a field, given the sidecar's; None where it is the same but for its name."""


@dataclass(frozen=True)
class Generation:
    """A request to generate, read from a surface's shape.

    options: Those of ``Sidecar.generate`` as plain values; the core adds ``window``, priority and deadline. The sidecar
        checks them.
    stream: Whether the answer is streamed.
    encoder: Makes the writer of a streamed answer.
    whole: The body of an answer that is not streamed. ``logprobs`` of its result are those of the text alone.
    names: The surface's name of each option that has another one, so that errors name the client's own field.
    way_of: Given the sidecar's way to a part of the prompt, the client's; None where ``names`` is enough.
    prepare: Asked first, with the sidecar's name of the model: for more options, or to raise ``Refused``. Meanwhile the
        client gets pings.
    settle: Run when the answer has ended, however it did.
    ignored: More of what is left aside, by name, than the lists of the route tell.
    """

    options: Mapping[str, Any]
    stream: bool
    encoder: Callable[[], Encoder]
    whole: Callable[[GenerateResult], bytes]
    names: Mapping[str, str] = field(default_factory=dict)
    prepare: Callable[[Backend, str], Awaitable[Mapping[str, Any]]] | None = None
    settle: Callable[[Backend], Awaitable[None]] | None = None
    ignored: tuple[str, ...] = ()
    way_of: WayOf | None = None


@dataclass(frozen=True)
class Instead:
    """A request that generates nothing after all, and what answers it, given the sidecar's name of the model."""

    answer: Callable[[Backend, str], Awaitable[bytes]]


@dataclass(frozen=True)
class Offer:
    """A model that clients may name: ``model`` is the sidecar's name for it, ``created`` a time in seconds.

    With an ``adapter``, which is at ``adapter_path``, answers are those of the model with it.
    """

    name: str
    model: str
    created: int = 0
    adapter: str | None = None
    adapter_path: str = ""


class Shared(Protocol):
    """The state of the gateway that all requests share."""

    @property
    def kept(self) -> KeptResponses: ...

    @property
    def sidecar(self) -> Sidecar: ...

    def may_name(self, name: str) -> bool:
        """Whether the client may name this model, if it is there."""
        ...

    async def offers(self) -> Sequence[Offer]:
        """The models that the client may name."""
        ...

    async def resolve(self, name: str) -> str:
        """The sidecar's name of the model. Raises ``Refused`` for one that is not offered."""
        ...

    def adapter(self, name: str) -> str | None:
        """The adapter that goes with a model that the client names; None without one."""
        ...


class Backend(Shared, Protocol):
    """The gateway as one request sees it."""

    async def resolve_bare(self, name: str) -> str:
        """As ``resolve``, for what adapters do not go with. Raises ``Refused`` for a name that has one."""
        ...

    @property
    def engine(self) -> Literal["local", "sidecar", "upstream"]:
        """Where the request is answered: by the own ``sidecar``, by a further one, or by a server of another.

        Sessions are the own sidecar's alone, and an upstream has no ``sidecar``.
        """
        ...

    def count(self, tokens: int) -> None:
        """Tell that the request had so many tokens computed, for the quota of its client."""
        ...


@dataclass(frozen=True)
class GenerateRoute:
    """A POST that is answered by one generation, streamed or not. Its body is an object.

    ``read`` raises ``Refused`` naming the field; ``parameters`` have been checked by then.
    """

    path: str
    parameters: Parameters
    read: Callable[[Question], Generation | Instead]
    media_type: str = EVENT_STREAM


@dataclass(frozen=True)
class AnswerRoute:
    """A request that is answered at once by one body, such as a list of models.

    ``parameters`` are those of its body; None for a route that takes no body. ``names`` has the client's name of each
    of the sidecar's parameters that has another one.
    A route ``computes`` if tokens go through a model for it, which count towards the quota of its client.
    ``media_type`` is that of its answer, where that is not JSON.
    """

    method: Literal["GET", "POST", "DELETE"]
    path: str
    answer: Callable[[Backend, Question], Awaitable[bytes]]
    parameters: Parameters | None = None
    names: Mapping[str, str] = field(default_factory=dict)
    computes: bool = False
    media_type: str = JSON


Route = GenerateRoute | AnswerRoute


@dataclass(frozen=True)
class Surface:
    """An interface that clients speak.

    fault: The body of an answer with an error status.
    statuses: By kind of fault the error status that this surface has for it, where that is another one.
    prefixes: What stands before the path of each route; with more than one the routes are served under each.
    allowances: The headers for what is left of a key's quotas, at a time in seconds since 1970.
    header: The header that tells a request of this surface where two surfaces serve the same path, as OpenAI's and
        Anthropic's ``/v1/models``. The surface without one has all other requests.
    """

    name: str
    routes: tuple[Route, ...]
    fault: Callable[[Fault], bytes]
    prefixes: tuple[str, ...] = ("", "/v1")
    header: str | None = None
    statuses: Mapping[str, int] = field(default_factory=dict)
    allowances: Callable[[Iterable[Allowance], float], Mapping[str, str]] = openai_headers
