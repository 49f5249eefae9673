"""The settings of a gateway, made once from the command line and handed down."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .core.keys import Key
from .observability.objective_words import Objective
from .observability.request_log import LogSettings
from .surfaces.surface import Offer

if TYPE_CHECKING:
    from .providers.table import Table


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The options of ``mlx-sidecar gateway``.

    listen: ``HOST:PORT`` or ``unix:PATH``.
    models: Those that clients may name, of which the first is the default; without any, clients may name those that
        the sidecar finds.
    command: The words of the sidecar's command before ``serve``; empty to find it as the Python client does.
    options: Options of ``serve``.
    ping_s: The longest silence of a streamed answer.
    drain_delay_s: From SIGTERM, with ``/health/ready`` 503 at once, until no more connections are taken.
    drain_timeout_s: From then until answers that still run are ended with an error.
    body_limit_bytes, body_timeout_s: The longest body of a request, and the longest time that it may take to come.
    header_timeout_s: The longest time that the headers of a request may take to come.
    keep_alive_s: How long a connection is kept between two requests.
    connection_limit: The most connections that are served; requests on further ones are refused.
    keys: What the holder of each key may do; without any, no key is asked for.
    hosts: Names that the ``Host`` header may have; without any, those of the address that is listened on.
    origins: Origins of web pages that may ask.
    otel: Whether spans and metrics are sent to a collector of OpenTelemetry, as the environment says.
    strict: Whether parameters that would change nothing are refused.
    request_log: Where requests are logged; None for nowhere.
    objectives: How soon requests are to be answered.
    repeat_guard: That of requests which name none; None for none.
    defaults: More options of the sidecar for requests which say nothing of them.
    providers: Models that other engines have, and those engines.
    """

    listen: str = "127.0.0.1:8080"
    models: tuple[Offer, ...] = ()
    command: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    ping_s: float = 1.0
    drain_delay_s: float = 0.0
    drain_timeout_s: float = 30.0
    body_limit_bytes: int = 16 * 2**20
    body_timeout_s: float = 30.0
    header_timeout_s: float = 10.0
    keep_alive_s: float = 5.0
    connection_limit: int = 1000
    keys: Mapping[str, Key] = field(default_factory=dict)
    hosts: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    otel: bool = False
    strict: bool = False
    request_log: LogSettings | None = None
    objectives: tuple[Objective, ...] = ()
    repeat_guard: int | None = None
    defaults: Mapping[str, Any] = field(default_factory=dict)
    providers: Table | None = None

    @property
    def offers(self) -> tuple[Offer, ...]:
        """All models that clients may name, the default first; none if that is left to the sidecar."""
        return (*self.models, *(() if self.providers is None else self.providers.offers))
