"""The ASGI application: from a path to the route of a surface, and from what goes wrong to an error of it."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

import orjson
from starlette.routing import Route as Path
from starlette.routing import Router
from starlette.types import ASGIApp, Receive, Scope, Send

from mlx_sidecar_client import RpcError, SidecarLost

from .core.access import LOCAL_NAMES, Access, is_loopback
from .core.answers import refuse
from .core.exchange import ClientLeft, Exchange
from .core.faults import INTERNAL, SHUTTING_DOWN, TOO_MANY_CONNECTIONS, fault_of
from .core.gateway import Gateway
from .core.health import PROBES, probe
from .core.records import DISCONNECTED
from .core.unserved import because_not_served
from .page.routes import paths_of_page
from .service import Service
from .surfaces.faults import Fault, Refused
from .surfaces.places import Placed
from .surfaces.surface import (
    AnswerRoute,
    Backend,
    GenerateRoute,
    Question,
    Route,
    Surface,
)
from .surfaces.table import SURFACES

log = logging.getLogger("mlx_sidecar_gateway")

Candidates = list[tuple[Surface, Route]]


def application(gateway: Gateway, access: Access, surfaces: Sequence[Surface] = SURFACES) -> ASGIApp:
    """The application; the first of ``surfaces`` also words the errors of paths that no surface has."""
    by_path: dict[str, dict[str, Candidates]] = {}
    for surface in surfaces:
        for route in surface.routes:
            method = "POST" if isinstance(route, GenerateRoute) else route.method
            for prefix in surface.prefixes:
                by_path.setdefault(prefix + route.path, {}).setdefault(method, []).append((surface, route))
    paths = [Path(path, Endpoint(gateway, access, methods, surfaces)) for path, methods in by_path.items()]
    paths.append(Path("/stats", Endpoint(gateway, access, _figures(gateway, surfaces[0]), surfaces)))
    paths.append(Path("/metrics", Endpoint(gateway, access, _metrics(gateway, surfaces[0]), surfaces)))
    probes = [Path(path, Probe(gateway, path)) for path in PROBES]
    page = paths_of_page(gateway, access, surfaces[0])
    return Router([*page, *probes, *paths], redirect_slashes=False, default=Endpoint(gateway, access, {}, surfaces))


class Probe:
    """A path of a supervisor's probes."""

    def __init__(self, gateway: Gateway, path: str) -> None:
        self._gateway = gateway
        self._path = path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await probe(self._gateway, Exchange(scope, receive, send), self._path)


class Endpoint:
    """A path, with the routes that its methods lead to: one, or several surfaces' that a header tells apart."""

    def __init__(
        self, gateway: Gateway, access: Access, methods: Mapping[str, Candidates], surfaces: Sequence[Surface]
    ) -> None:
        self._gateway = gateway
        self._access = access
        self._methods = methods
        self._surfaces = surfaces
        self._service = Service(gateway)
        routes = [route for surface in surfaces for route in surface.routes]
        self._served = [route.path for route in routes if isinstance(route, GenerateRoute)]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        exchange = Exchange(scope, receive, send, self._gateway.comebacks)
        exchange.extra |= self._access.cors(exchange.headers)
        if exchange.method == "OPTIONS" and "access-control-request-method" in exchange.headers:
            await self._preflight(exchange)
            return
        self._gateway.records.begin(exchange.record)
        try:
            await self._answer_or_refuse(exchange)
        finally:
            if not exchange.record.outcome:  # cancelled, or a bug
                exchange.record.fault(SHUTTING_DOWN if self._gateway.is_draining else INTERNAL)
            self._gateway.records.end(exchange.record)

    async def _answer_or_refuse(self, exchange: Exchange) -> None:
        surface, route = self._chosen(exchange)
        record = exchange.record
        record.surface, record.route = surface.name, "" if route is None else route.path
        try:
            if exchange.is_surplus:
                raise Refused(TOO_MANY_CONNECTIONS)
            caller = self._access.check(exchange.headers)
            record.key = caller.key.name
            if route is None:
                raise Refused(self._not_there(record.path, exchange.method))
            await self._service.serve(exchange, caller, surface, route)
        except Refused as refused:
            await refuse(exchange, surface, refused.fault)
        except Placed as error:
            await refuse(exchange, surface, fault_of(error.error, _names(route), error.way_of))
        except (RpcError, SidecarLost) as error:
            await refuse(exchange, surface, fault_of(error, _names(route)))
        except ClientLeft:
            self._gateway.outcomes[DISCONNECTED] += 1
            record.outcome = DISCONNECTED
        except Exception:
            log.exception("request %s: a bug of the gateway", exchange.id)
            if exchange.is_begun:
                raise
            await refuse(exchange, surface, INTERNAL)

    async def _preflight(self, exchange: Exchange) -> None:
        """Tell a browser what the page may ask; without the headers of ``cors`` it may ask nothing."""
        allowed = {
            "access-control-allow-methods": ", ".join(self._methods),
            "access-control-allow-headers": exchange.headers.get("access-control-request-headers", "*"),
        }
        await exchange.answer(204, b"", headers=allowed)

    def _chosen(self, exchange: Exchange) -> tuple[Surface, Route | None]:
        method = "GET" if exchange.method == "HEAD" else exchange.method
        candidates = self._methods.get(method, [])
        by_header = [each for each in candidates if each[0].header in exchange.headers]
        without = [each for each in candidates if each[0].header is None]
        if chosen := by_header or without or candidates:
            return chosen[0]
        return next((other[0][0] for other in self._methods.values()), self._surface_of(exchange)), None

    def _surface_of(self, exchange: Exchange) -> Surface:
        """The surface that words the errors of a path which none has."""
        by_header = (surface for surface in self._surfaces if surface.header in exchange.headers)
        return next(by_header, self._surfaces[0])

    def _not_there(self, path: str, method: str) -> Fault:
        if self._methods:
            return Fault(405, "method_not_allowed", f"{path} takes {', '.join(self._methods)}, not {method}")
        return Fault(404, "not_served", because_not_served(path, self._served))


def _names(route: Route | None) -> Mapping[str, str] | None:
    return route.names if isinstance(route, AnswerRoute) else None


def _figures(gateway: Gateway, surface: Surface) -> dict[str, Candidates]:
    async def answer(_backend: Backend, _question: Question) -> bytes:
        return orjson.dumps(gateway.figures())

    return {"GET": [(surface, AnswerRoute("GET", "/stats", answer))]}


def _metrics(gateway: Gateway, surface: Surface) -> dict[str, Candidates]:
    from .observability.metrics import MEDIA_TYPE  # not at the top: it takes 60 ms

    metrics = gateway.metrics

    async def answer(_backend: Backend, _question: Question) -> bytes:
        return await metrics.exposition()

    return {"GET": [(surface, AnswerRoute("GET", "/metrics", answer, media_type=MEDIA_TYPE))]}


def access_of(gateway: Gateway, host: str | None) -> Access:
    """The rules for a gateway that listens on ``host``; None for a socket in the file system."""
    settings = gateway.settings
    hosts = {*settings.hosts, *LOCAL_NAMES, host} if host is not None and is_loopback(host) else settings.hosts or None
    return Access(hosts, settings.origins, settings.keys, gateway.clock_ns)
