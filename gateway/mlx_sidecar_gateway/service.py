"""The service of one request: its body is read and checked, and its route computes the answer, or a model writes it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import orjson

from mlx_sidecar_client.protocol.strings import surrogate_place

from .core.answers import Answer, StreamedAnswer, WholeAnswer
from .core.cache_explanation import explained
from .core.caller import Caller, CallersBackend
from .core.defaults import unsaid
from .core.exchange import Exchange
from .core.gateway import Gateway
from .core.headers import NAMES, options_of
from .core.records import ANSWERED
from .core.source import Source
from .core.usage import BYTES_A_TOKEN, Spending
from .surfaces.faults import Fault, Refused
from .surfaces.surface import AnswerRoute, Backend, GenerateRoute, Generation, Instead, Question, Route, Surface

if TYPE_CHECKING:
    from .providers.routed import Candidate

_IGNORED = "x-mlx-sidecar-ignored"


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


class Service:
    """Answers requests whose callers are known, each by the route that it took."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    async def serve(self, exchange: Exchange, caller: Caller, surface: Surface, route: Route) -> None:
        """Answer the request of ``exchange``.

        Raises ``Refused``, ``RpcError`` and ``SidecarLost`` before the answer has begun, and ``ClientLeft``.
        """
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
            defaults=self._gateway.settings.defaults,
        )
        if route.parameters is not None:
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
        body = _parsed(raw)
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
        options = {
            **self._usual_options(),
            **generation.options,
            **unsaid(request.question, generation),
            **headers,
        }
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
                way_of=generation.way_of,
            )
        return WholeAnswer(
            request.exchange,
            partial(generate, echo_text=True),
            names,
            surface=request.surface,
            whole=generation.whole,
            with_logprobs=with_logprobs,
            way_of=generation.way_of,
        )


def _parsed(raw: bytes) -> Any:
    """The value of a body. Raises ``Refused``, by its way for a string that was cut in the middle of a character."""
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        if "surrogate" in str(error):
            with suppress(ValueError, RecursionError):  # of the strict parser it is known why
                if place := surrogate_place(json.loads(raw)):
                    raise Refused.parameter(".".join(map(str, place)), "a string has an unpaired surrogate") from error
        raise Refused(Fault(400, "parse_error", f"the body is not JSON: {error}")) from error


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
