"""The paths of the live page: ``/``, which is also a probe, and ``/events``."""

from __future__ import annotations

import time
from functools import partial

from starlette.routing import Route as Path
from starlette.types import Receive, Scope, Send

from ..core.access import Access
from ..core.answers import refuse
from ..core.exchange import ClientLeft, Exchange
from ..core.faults import TOO_MANY_CONNECTIONS
from ..core.gateway import Gateway
from ..core.health import probe
from ..surfaces.faults import Fault, Refused
from ..surfaces.surface import EVENT_STREAM, Surface
from .document import document
from .recent import Recent
from .ticker import Ticker

_HEADERS = {
    "cache-control": "no-cache",
    "cross-origin-opener-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "vary": "accept",
    "x-content-type-options": "nosniff",
}


def paths_of_page(gateway: Gateway, access: Access, surface: Surface) -> list[Path]:
    """The routes of the page; ``surface`` words their refusals."""
    recent = Recent(time.monotonic)
    gateway.records.listeners.append(recent.hear)
    events = Events(gateway, access, surface, Ticker(gateway, recent))
    return [Path("/", Front(gateway, access, surface)), Path("/events", events)]


class Front:
    """``/``: the document for browsers, which ask for HTML, and for all others the probe that it was before."""

    def __init__(self, gateway: Gateway, access: Access, surface: Surface) -> None:
        self._gateway, self._access, self._surface = gateway, access, surface

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = Exchange(scope, receive, send)
        if exchange.method not in ("GET", "HEAD") or not wants_html(exchange.headers.get("accept", "")):
            await probe(self._gateway, exchange, "/")
            return
        try:
            # The document holds nothing of the gateway, so that it needs no key: it asks for one itself.
            self._access.check_origin(exchange.headers)
        except Refused as refused:
            await refuse(exchange, self._surface, refused.fault)
            return
        page = document()
        headers = {"content-security-policy": page.policy, **_HEADERS}
        await exchange.answer(200, page.html, "text/html; charset=utf-8", headers)


class Events:
    """``/events``: a snapshot each second, for as long as the client stays and the gateway runs."""

    def __init__(self, gateway: Gateway, access: Access, surface: Surface, ticker: Ticker) -> None:
        self._gateway, self._access, self._surface, self._ticker = gateway, access, surface, ticker

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = Exchange(scope, receive, send)
        exchange.extra |= self._access.cors(exchange.headers)
        try:
            if exchange.is_surplus:
                raise Refused(TOO_MANY_CONNECTIONS)
            key = self._access.check(exchange.headers).key.name
            if exchange.method != "GET":
                raise Refused(Fault(405, "method_not_allowed", f"/events takes GET, not {exchange.method}"))
            await exchange.begin(EVENT_STREAM)
            await exchange.finish(await exchange.unless_left(self._follow(exchange, partial(self._event, key))))
        except Refused as refused:
            await refuse(exchange, self._surface, refused.fault)
        except ClientLeft:
            pass  # as every viewer does in the end

    async def _follow(self, exchange: Exchange, event: partial[bytes]) -> bytes:
        """Write events until the gateway has ended its work; returns the last one."""
        number = 0
        while True:
            # There is no queue: a viewer that reads slowly gets the newest snapshot next, and misses those between.
            number = await self._ticker.after(number)
            if self._gateway.is_draining and not self._gateway.answers:
                return event()
            await exchange.write(event())

    def _event(self, key: str) -> bytes:
        return b"data: " + self._ticker.snapshot(key) + b"\n\n"


def wants_html(accept: str) -> bool:
    """Whether a client names HTML among what it accepts. Those that accept anything want the probe."""
    return any(part.partition(";")[0].strip().lower() == "text/html" for part in accept.split(","))
