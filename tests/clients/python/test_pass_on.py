"""Deltas that are passed on in the turn in which they were read."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import anyio
import pytest

from mlx_sidecar_client import Sidecar
from mlx_sidecar_client.stream import Stream

from .support import ENDLESS, FAKE, PATIENCE_S, no_stream_runs

pytestmark = pytest.mark.anyio

SLOW = "fake?tokens=40&delay_ms=2"

Delta = dict[str, Any]


@pytest.fixture(scope="module")
async def sidecar() -> AsyncIterator[Sidecar]:
    """One for all tests that leave it as it was, on each event loop."""
    async with Sidecar.spawn(**FAKE) as sidecar:
        yield sidecar


async def _carried(stream: Stream[Any], takes: Callable[[Delta], bool]) -> list[Delta]:
    """The deltas in the order in which they came, either way."""
    deltas: list[Delta] = []

    def pass_on(passed: list[Delta]) -> bool:
        if not takes(passed[0]):
            return False
        deltas.extend(passed)
        return True

    while taken := await stream.take_plain(pass_on):
        deltas += taken
    return deltas


@pytest.mark.parametrize("every", [1, 2, 3, 100])
async def test_each_delta_comes_once_and_in_its_order_whether_it_is_taken_or_not(sidecar: Sidecar, every: int) -> None:
    stream = sidecar.generate(SLOW, prompt="Hello", window=4)
    deltas = await _carried(stream, lambda delta: delta["seq"] % every == 0)
    assert [delta["seq"] for delta in deltas] == list(range(len(deltas)))
    assert "".join(delta["text"] for delta in deltas) == stream.result.text
    assert stream.delivered_tokens == 40


async def test_deltas_that_are_taken_wake_no_task(sidecar: Sidecar) -> None:
    stream = sidecar.generate("fake?tokens=40&delay_ms=20", prompt="Hello")
    await stream.take_plain()
    passed: list[Delta] = []

    def take(deltas: list[Delta]) -> bool:
        passed.extend(deltas)
        return True

    assert await stream.take_plain(take) == []
    assert passed
    assert stream.has_result


async def test_an_exception_is_raised_where_the_stream_is_awaited_and_others_go_on(sidecar: Sidecar) -> None:
    def fail(_: Delta) -> bool:
        raise ZeroDivisionError

    async with sidecar.generate(ENDLESS, prompt="Hello") as stream:
        with pytest.raises(ZeroDivisionError):
            await _carried(stream, fail)
    assert (await sidecar.generate("fake?tokens=3", prompt="Hello")).usage.completion_tokens == 3
    await no_stream_runs(sidecar)


async def test_a_stream_that_is_left_passes_nothing_on(sidecar: Sidecar) -> None:
    passed: list[int] = []
    stream = sidecar.generate(ENDLESS, prompt="Hello")

    def leave(deltas: list[Delta]) -> bool:
        passed.append(len(deltas))
        stream.leave()
        return True

    with anyio.fail_after(PATIENCE_S):
        while await stream.take_plain(leave):
            pass
    await no_stream_runs(sidecar)
    assert len(passed) == 1
