"""A sidecar that says what a test wrote down, at the moments that it wrote down, and notes who left it."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any, Self, cast

import anyio
from starlette.types import ASGIApp

from mlx_sidecar_client import GenerateResult, Sidecar, Stream
from mlx_sidecar_client.stream import PassOn
from mlx_sidecar_gateway.app import access_of, application
from mlx_sidecar_gateway.core.gateway import Gateway
from mlx_sidecar_gateway.settings import Settings
from mlx_sidecar_gateway.surfaces.events import Delta, Reasoning, Text, ToolStart

Step = float | list[dict[str, Any]]
"""Seconds of silence, or deltas that come at once."""


class ScriptedStream:
    """A generation that follows its ``steps`` to its ``ending``."""

    def __init__(self, steps: Sequence[Step], ending: GenerateResult | Exception) -> None:
        self._steps = list(steps)
        self._ending = ending
        self.is_left = False
        self.delivered_tokens = 0

    @property
    def has_result(self) -> bool:
        return not self._steps and isinstance(self._ending, GenerateResult)

    @property
    def result(self) -> GenerateResult:
        assert isinstance(self._ending, GenerateResult)
        return self._ending

    async def take_plain(self, pass_on: PassOn | None = None) -> list[dict[str, Any]]:
        has_waited = False
        while self._steps:
            step = self._steps.pop(0)
            if isinstance(step, list):
                self.delivered_tokens += len(step)
                if not (has_waited and pass_on is not None and pass_on(step)):
                    return step
            else:
                has_waited = True
                await anyio.sleep(step)
        if isinstance(self._ending, Exception):
            raise self._ending
        return []

    async def _whole(self) -> GenerateResult:
        while await self.take_plain():
            pass
        return self.result

    def __await__(self) -> Generator[Any, None, GenerateResult]:
        return self._whole().__await__()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.is_left = True


class ScriptedSidecar:
    """Answers every request by one script."""

    def __init__(self, steps: Sequence[Step], ending: GenerateResult | Exception) -> None:
        self._steps, self._ending = steps, ending
        self.streams: list[ScriptedStream] = []

    def generate(self, _model: str, **_options: Any) -> Stream[Any]:
        self.streams.append(ScriptedStream(self._steps, self._ending))
        return cast("Stream[Any]", self.streams[-1])


def gateway_over(sidecar: ScriptedSidecar, **settings: Any) -> tuple[Gateway, ASGIApp]:
    """A gateway over ``sidecar``, and its application."""
    gateway = Gateway(Settings(**settings))
    gateway.sidecar, gateway.is_loaded = cast("Sidecar", sidecar), True
    return gateway, application(gateway, access_of(gateway, None))


def plain(event: Delta) -> dict[str, Any]:
    """A ``stream/delta`` that has this event alone."""
    delta: dict[str, Any] = {"text": "", "tokens": [0]}
    if isinstance(event, Text):
        return {**delta, "text": event.text}
    if isinstance(event, Reasoning):
        return {**delta, "reasoning": event.text}
    if isinstance(event, ToolStart):
        return {**delta, "tool_calls": [{"index": event.index, "id": event.id, "name": event.name}]}
    return {**delta, "tool_calls": [{"index": event.index, "arguments": event.arguments}]}
