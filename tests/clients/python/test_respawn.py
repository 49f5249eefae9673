"""The sidecar dies: what is asked again, what is reported, and when it is given up."""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest

from mlx_sidecar_client import Sidecar, SidecarLost
from mlx_sidecar_client.supervisor import _MOST_DEATHS

from .support import COMMAND, ENDLESS, FAKE, PATIENCE_S, collect, fake, send

pytestmark = pytest.mark.anyio


async def while_it_dies(sidecar: Sidecar, ask: Callable[[], Awaitable[Any]]) -> Any:
    """The outcome of a request that a stopped sidecar has been sent when it is killed."""
    outcome: list[Any] = []

    async def asking() -> None:
        try:
            outcome.append(await ask())
        except SidecarLost as lost:
            outcome.append(lost)

    await send(sidecar, signal.SIGSTOP)
    with anyio.fail_after(PATIENCE_S):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(asking)
            await anyio.wait_all_tasks_blocked()
            await send(sidecar, signal.SIGKILL)
    return outcome[0]


async def test_what_may_be_asked_twice_is_asked_again() -> None:
    async with Sidecar.spawn(**FAKE) as sidecar:
        first = await sidecar.process_id()
        tokenized = await while_it_dies(sidecar, lambda: sidecar.tokenize("fake", "abc"))
        assert tokenized.tokens == [97, 98, 99]
        assert await sidecar.process_id() != first


async def test_a_generation_of_which_nothing_was_delivered_is_asked_again() -> None:
    async with Sidecar.spawn(**FAKE) as sidecar:
        whole = await while_it_dies(sidecar, lambda: sidecar.generate("fake?text=hey", prompt="x").whole())
        assert whole.text == "hey"
        delta = await while_it_dies(sidecar, lambda: sidecar.generate("fake?text=hey", prompt="x").__anext__())
        assert delta.text.startswith("h")


async def test_what_may_not_be_asked_twice_is_reported() -> None:
    async with Sidecar.spawn(**FAKE) as sidecar:
        lost = await while_it_dies(sidecar, sidecar.cache_clear)
        assert isinstance(lost, SidecarLost)
        assert lost.exit_status == -signal.SIGKILL
        await sidecar.ping()


async def test_a_stream_with_delivered_text_is_reported_with_that_text() -> None:
    deltas = []
    async with Sidecar.spawn(**FAKE) as sidecar:
        stream = sidecar.generate(ENDLESS, prompt="Hello")
        deltas += [await anext(stream), await anext(stream)]
        await send(sidecar, signal.SIGKILL)
        with pytest.raises(SidecarLost) as caught:
            await collect(stream, deltas)
        assert caught.value.text == "".join(delta.text for delta in deltas)
        assert caught.value.tokens == [token for delta in deltas for token in delta.tokens]
        assert (await sidecar.generate("fake?text=hey", prompt="x")).text == "hey"


async def test_models_that_were_loaded_are_loaded_again_and_those_unloaded_are_not() -> None:
    async with Sidecar.spawn(**FAKE) as sidecar:
        await sidecar.load("fake?context=100", pin=True)
        await sidecar.load("fake?context=200")
        await sidecar.unload("fake?context=200")
        await send(sidecar, signal.SIGKILL)
        (card,) = (await sidecar.models()).models
        assert (card.model, card.pinned) == ("fake?context=100", True)


async def test_a_sidecar_that_dies_too_often_is_given_up() -> None:
    async with Sidecar.spawn(**FAKE) as sidecar:
        for _ in range(_MOST_DEATHS):
            await send(sidecar, signal.SIGKILL)
            await sidecar.ping()
        await send(sidecar, signal.SIGKILL)
        with pytest.raises(SidecarLost):
            await sidecar.ping()
        with pytest.raises(SidecarLost):
            await sidecar.generate("fake", prompt="x")


async def test_without_respawn_one_death_is_the_end() -> None:
    async with Sidecar.spawn(command=COMMAND, options=["--engine", "fake"], respawn=False) as sidecar:
        assert isinstance(await while_it_dies(sidecar, sidecar.ping), SidecarLost)
        with pytest.raises(SidecarLost, match="signal 9"):
            await sidecar.ping()


async def test_the_death_of_the_engine_alone_goes_unnoticed_by_a_stream() -> None:
    states = []
    async with Sidecar.spawn(**fake(lambda state: states.append(state.state))) as sidecar:
        broken = sidecar.generate("fake?tokens=40&crash_after=15", prompt="Hello", seed=7)
        texts = [delta.text async for delta in broken]
        whole = await sidecar.generate("fake?tokens=40", prompt="Hello", seed=7)
    assert "".join(texts) == broken.result.text == whole.text
    assert "lost" in states
