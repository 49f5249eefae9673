"""Probes of supervisors, which need no key: whether the gateway lives, is ready, has started."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import orjson

from .exchange import Exchange
from .gateway import Gateway


async def _has_started(gateway: Gateway) -> bool:
    return gateway.is_loaded


PROBES: dict[str, Callable[[Gateway], Awaitable[bool]]] = {
    "/health/live": Gateway.is_alive,
    "/health/ready": Gateway.is_ready,
    "/health/startup": _has_started,
    "/health": Gateway.is_ready,
    "/v1/health": Gateway.is_ready,  # which clients ask that put their base URL before every path
    "/": Gateway.is_alive,  # which clients ask before their first request
}


async def probe(gateway: Gateway, exchange: Exchange, path: str) -> None:
    """Answer 200 or 503."""
    is_well = await PROBES[path](gateway)
    await exchange.answer(200 if is_well else 503, orjson.dumps({"status": "ok" if is_well else "unavailable"}))
