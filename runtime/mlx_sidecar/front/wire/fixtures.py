"""Fixtures are methods for conformance tests, served with ``--fixtures`` only."""

from __future__ import annotations

from typing import Annotated, Any

import anyio
from pydantic import Field

from mlx_sidecar_protocol.envelope import Params
from mlx_sidecar_protocol.errors import NO_DATA, RpcError
from mlx_sidecar_protocol.model import Received
from mlx_sidecar_protocol.operations import NoParams

from .context import RequestContext
from .dispatcher import Method


class SubtractParams(Received):
    minuend: int | float
    subtrahend: int | float


class FailParams(Received):
    code: int
    message: str
    data: Any = None


class SleepParams(Received):
    ms: Annotated[int | float, Field(ge=0)]


class FixtureError(RpcError):
    """Any error a test asks for."""

    kind = "fixture"

    def __init__(self, code: int, message: str, data: Any) -> None:
        super().__init__(message)
        self.code = code  # type: ignore[misc]
        self._data = data

    @property
    def data(self) -> Any:
        return self._data


class Fixtures:
    """``t.echo``, ``t.sub``, ``t.fail``, ``t.crash``, ``t.sleep``, ``t.bump``, ``t.count``, ``t.none``."""

    def __init__(self) -> None:
        self._bumps = 0

    def methods(self) -> list[Method[Any]]:
        return [
            Method("t.echo", None, self._echo, quick=True),
            Method("t.sub", SubtractParams, self._sub, quick=True),
            Method("t.fail", FailParams, self._fail, quick=True),
            Method("t.crash", None, self._crash, quick=True),
            Method("t.sleep", SleepParams, self._sleep),
            Method("t.bump", NoParams, self._bump, quick=True),
            Method("t.count", NoParams, self._count, quick=True),
            Method("t.none", NoParams, self._none, quick=True),
        ]

    def _echo(self, context: RequestContext, params: Params) -> dict[str, Any]:
        return {"got": params}

    def _sub(self, context: RequestContext, params: SubtractParams) -> dict[str, Any]:
        return {"value": params.minuend - params.subtrahend}

    def _fail(self, context: RequestContext, params: FailParams) -> dict[str, Any]:
        raise FixtureError(params.code, params.message, params.data if "data" in params.model_fields_set else NO_DATA)

    def _crash(self, context: RequestContext, params: Params) -> dict[str, Any]:
        raise ValueError("a fixture crashed, as it was asked to")

    async def _sleep(self, context: RequestContext, params: SleepParams) -> dict[str, Any]:
        await anyio.sleep(params.ms / 1000)
        return {"slept": params.ms}

    def _bump(self, context: RequestContext, params: NoParams) -> dict[str, Any]:
        self._bumps += 1
        return {}

    def _count(self, context: RequestContext, params: NoParams) -> dict[str, Any]:
        return {"n": self._bumps}

    def _none(self, context: RequestContext, params: NoParams) -> dict[str, Any]:
        return {}
