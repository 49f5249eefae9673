"""The ASGI application: from a path to the route of a surface, and from a request to its answer."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import orjson
from starlette.routing import Route as Path
from starlette.routing import Router
from starlette.types import ASGIApp, Receive, Scope, Send

from mlx_sidecar_client import RpcError, SidecarLost

from .core.access import LOCAL_NAMES, Access, is_loopback
from .core.answers import Answer, StreamedAnswer, WholeAnswer, refuse
from .core.cache_explanation import explained
from .core.caller import Caller, CallersBackend
from .core.exchange import ClientLeft, Exchange
from .core.faults import INTERNAL, SHUTTING_DOWN, TOO_MANY_CONNECTIONS, fault_of
from .core.gateway import Gateway
from .core.headers import NAMES, options_of
from .core.health import PROBES, probe
from .core.records import ANSWERED, DISCONNECTED
from .core.source import Source
from .core.unserved import because_not_served
from .core.usage import BYTES_A_TOKEN, Spending
from .page.routes import paths_of_page
from .surfaces.faults import Fault, Refused
from .surfaces.surface import (
    AnswerRoute,
    Backend,
    GenerateRoute,
    Generation,
    Instead,
    Question,
    Route,
    Surface,
)
from .surfaces.table import SURFACES

if TYPE_CHECKING:
    from .providers.routed import Candidate

log = logging.getLogger("mlx_sidecar_gateway")

_IGNORED = "x-mlx-sidecar-ignored"

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


class Generate(Protocol):
    """Begins the generation that a request asks for."""

    async def __call__(self, *, echo_text: bool) -> Source: ...


@dataclass(frozen=True)
class Request:
    """A request, with all that it takes to answer it."""

    exchange: Exchange
    caller: Caller
    backend: CallersBackend
    surface: Surface
    question: Question
    body_bytes: int


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
            await self._serve(exchange, caller, surface, route)
        except Refused as refused:
            await refuse(exchange, surface, refused.fault)
        except (RpcError, SidecarLost) as error:
            names = route.names if isinstance(route, AnswerRoute) else None
            await refuse(exchange, surface, fault_of(error, names))
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

    async def _serve(self, exchange: Exchange, caller: Caller, surface: Surface, route: Route) -> None:
        backend = CallersBackend(self._gateway, caller)
        body, length = await self._body(exchange, route)
        name = body.get("model", self._default_model(caller))
        question = Question(
            id=exchange.id,
            unix_s=int(time.time()),
            model=name if isinstance(name, str) else "",
            headers=exchange.headers,
            path=exchange.path,
            query=exchange.query,
            body=body,
            caller=caller.key.name,
        )
        exchange.record.model = question.model
        request = Request(exchange, caller, backend, surface, question, length)
        if isinstance(route, GenerateRoute):
            if not isinstance(name, str):
                raise Refused.parameter("model", "a name is needed, because the gateway has no default model")
            await self._generate(request, route)
        else:
            await self._compute(request, route)

    async def _compute(self, request: Request, route: AnswerRoute) -> None:
        exchange, quota = request.exchange, request.caller.quota
        question, estimate = request.question, None
        if route.computes:
            options = self._admitted(exchange, request.caller, options_of(exchange.headers, request.caller))
            question, estimate = replace(question, options=options), request.body_bytes // BYTES_A_TOKEN
        if route.method == "POST":
            with _telling_allowances(exchange, request.caller, request.surface):
                quota.admit(estimate)
        try:
            body = await exchange.unless_left(route.answer(request.backend, question))
        finally:
            if estimate is not None:
                quota.settle(estimate, request.backend.computed)
        exchange.record.outcome = ANSWERED
        await exchange.answer(200, body, route.media_type)

    def _usual_options(self) -> dict[str, Any]:
        """Options of generations whose requests say nothing of them."""
        guard = self._gateway.settings.repeat_guard
        return {} if guard is None else {"repeat_guard": guard}

    def _admitted(self, exchange: Exchange, caller: Caller, options: dict[str, Any]) -> dict[str, Any]:
        """``options`` with the priority that the objectives leave them. Raises ``Refused`` for one that must wait."""
        record = exchange.record
        record.asked_priority = options["priority"]
        record.priority = self._gateway.objectives.admitted(record.asked_priority, caller.key)
        return {**options, "priority": record.priority}

    def _default_model(self, caller: Caller) -> str | None:
        """The model of a request that names none."""
        offers = self._gateway.settings.offers
        return next((offer.name for offer in offers if caller.may_name(offer.name)), None)

    async def _body(self, exchange: Exchange, route: Route) -> tuple[dict[str, Any], int]:
        """The parsed body, whose parameters may be there, and its length in bytes.

        It is empty for a route that takes none.
        """
        settings = self._gateway.settings
        raw = await exchange.body(settings.body_limit_bytes, settings.body_timeout_s)
        if isinstance(route, AnswerRoute) and route.parameters is None:
            return {}, len(raw)
        assert route.parameters is not None
        try:
            body = orjson.loads(raw)
        except orjson.JSONDecodeError as error:
            raise Refused(Fault(400, "parse_error", f"the body is not JSON: {error}")) from error
        if not isinstance(body, dict):
            raise Refused(Fault(400, "invalid_request", "the body is no JSON object"))
        if self._gateway.records.keeps_bodies:
            exchange.record.body = raw
        self._name_ignored(exchange, route.parameters.ignored(body, strict=settings.strict))
        return {member: value for member, value in body.items() if value is not None}, len(raw)

    def _name_ignored(self, exchange: Exchange, names: Sequence[str]) -> None:
        """Have the response name what is left aside."""
        if names:
            exchange.extra[_IGNORED] = ", ".join([*filter(None, [exchange.extra.get(_IGNORED)]), *names])
            self._gateway.ignored.update(names)
            exchange.record.ignored += tuple(names)

    async def _generate(self, request: Request, route: GenerateRoute) -> None:
        exchange, caller, backend = request.exchange, request.caller, request.backend
        generation = route.read(request.question)
        exchange.record.generates = True
        headers = self._admitted(exchange, caller, options_of(exchange.headers, caller))
        # Of a model in the table it is known later which provider answers; the rest is the own sidecar's.
        candidates = self._candidates(request) if isinstance(generation, Generation) else []
        model = "" if candidates else await backend.resolve(request.question.model)
        if isinstance(generation, Instead):
            with _telling_allowances(exchange, caller, request.surface):
                caller.quota.admit(None)
            await exchange.answer(200, await generation.answer(backend, model))
            exchange.record.outcome = ANSWERED
            return
        if generation.ignored and self._gateway.settings.strict:
            because = "it would change nothing, and the gateway runs with --strict"
            raise Refused.parameter(generation.ignored[0], because, "unsupported_parameter")
        self._name_ignored(exchange, generation.ignored)
        options = {**self._usual_options(), **generation.options, **headers}
        exchange.record.is_streamed = generation.stream
        options |= await _drafted(backend, options)
        if (adapter := backend.adapter(request.question.model)) is not None:
            options["adapter"] = adapter
        if "explain_cache" in headers:
            generation = explained(generation, exchange, is_alone=caller.is_alone)
        with _telling_allowances(exchange, caller, request.surface):
            spending = Spending(caller.quota, request.body_bytes)

        async def generate(*, echo_text: bool) -> Source:
            if candidates:
                return spending.on(self._routed(request, candidates, generation, options, echo_text=echo_text))
            more = {} if generation.prepare is None else await generation.prepare(backend, model)
            return spending.on(self._gateway.sidecar.generate(model, **options, **more, echo_text=echo_text))

        answer = self._answer(request, route, generation, generate, with_logprobs="logprobs" in options)
        try:
            await self._gateway.run(answer)
        finally:
            exchange.record.outcome = answer.outcome
            spending.settle(answer.outcome)
            if generation.settle is not None:
                await generation.settle(backend)

    def _candidates(self, request: Request) -> list[Candidate]:
        """The providers of the model, if it is in the table; the caller may name it."""
        providers, name = self._gateway.providers, request.question.model
        return [] if providers is None or not request.backend.may_name(name) else providers.candidates(name)

    def _routed(
        self,
        request: Request,
        candidates: Sequence[Candidate],
        generation: Generation,
        options: Mapping[str, Any],
        *,
        echo_text: bool,
    ) -> Source:
        """The generation at the first of these providers that takes it."""
        gateway, record = self._gateway, request.exchange.record
        assert gateway.providers is not None
        return gateway.providers.source(
            candidates, gateway, request.caller, request.question, generation, options, record, echo_text=echo_text
        )

    def _answer(
        self,
        request: Request,
        route: GenerateRoute,
        generation: Generation,
        generate: Generate,
        *,
        with_logprobs: bool,
    ) -> Answer:
        names = {**generation.names, **NAMES}
        if generation.stream:
            return StreamedAnswer(
                request.exchange,
                partial(generate, echo_text=False),
                names,
                surface=request.surface,
                encoder=generation.encoder(),
                media_type=route.media_type,
                ping_s=self._gateway.settings.ping_s,
            )
        return WholeAnswer(
            request.exchange,
            partial(generate, echo_text=True),
            names,
            surface=request.surface,
            whole=generation.whole,
            with_logprobs=with_logprobs,
        )


@contextmanager
def _telling_allowances(exchange: Exchange, caller: Caller, surface: Surface) -> Iterator[None]:
    """Afterwards the answer says what is left of the caller's quotas, also if that was too little."""
    try:
        yield
    finally:
        exchange.extra |= surface.allowances(caller.quota.allowances(), time.time())


async def _drafted(backend: Backend, options: Mapping[str, Any]) -> dict[str, Any]:
    """``speculation`` with the sidecar's name of its draft, which must be a model that the client may name."""
    speculation = options.get("speculation")
    if not isinstance(speculation, dict) or not isinstance(draft := speculation.get("draft"), str):
        return {}
    try:
        return {"speculation": {**speculation, "draft": await backend.resolve_bare(draft)}}
    except Refused as refused:
        raise Refused(replace(refused.fault, param="speculation.draft")) from None


def _figures(gateway: Gateway, surface: Surface) -> dict[str, Candidates]:
    async def answer(_backend: Backend, _question: Question) -> bytes:
        return orjson.dumps(gateway.figures())

    return {"GET": [(surface, AnswerRoute("GET", "/stats", answer))]}


def _metrics(gateway: Gateway, surface: Surface) -> dict[str, Candidates]:
    from .observability.metrics import MEDIA_TYPE, Metrics  # not at the top: it takes 60 ms

    metrics = Metrics(gateway)

    async def answer(_backend: Backend, _question: Question) -> bytes:
        return await metrics.exposition()

    return {"GET": [(surface, AnswerRoute("GET", "/metrics", answer, media_type=MEDIA_TYPE))]}


def access_of(gateway: Gateway, host: str | None) -> Access:
    """The rules for a gateway that listens on ``host``; None for a socket in the file system."""
    settings = gateway.settings
    hosts = {*settings.hosts, *LOCAL_NAMES, host} if host is not None and is_loopback(host) else settings.hosts or None
    return Access(hosts, settings.origins, settings.keys, gateway.clock_ns)
