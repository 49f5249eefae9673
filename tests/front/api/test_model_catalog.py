"""The front's record of models holds while engines come and go: loaded models are loaded, unloaded ones stay so."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from types import SimpleNamespace
from typing import Any, cast

import pytest

from mlx_sidecar.config import Config
from mlx_sidecar.front.api import model_catalog
from mlx_sidecar.front.api.fake_text import FakeText
from mlx_sidecar.front.api.model_catalog import ModelCatalog
from mlx_sidecar.front.api.model_text import ModelText
from mlx_sidecar.front.supervision.supervisor import Supervisor
from mlx_sidecar.front.supervision.text_pool import TextPool
from mlx_sidecar.link.control_messages import Load, Loaded, ModelCard, Unload, Unloaded
from mlx_sidecar_protocol.errors import EngineLost, ModelLoadFailed, ModelNotLoaded, RpcError
from mlx_sidecar_protocol.operations import LoadParams


class Desk:
    """A supervisor whose engine answers when the test says so."""

    def __init__(self) -> None:
        self.asked: list[Load | Unload] = []
        self.resident: set[str] = set()
        self._answers: list[asyncio.Future[None]] = []
        self._ops = 0
        self.load_s = 0.5

    def next_op(self) -> int:
        self._ops += 1
        return self._ops

    def wake(self, *, urgent: bool = False) -> None:
        """It has not been given up."""

    async def load(self, message: Load, on_progress: object = None) -> Loaded:
        await self._answer(message)
        self.resident.add(message.model)
        return Loaded(message.op, ModelCard(message.model, "ready", message.path), self.load_s)

    async def unload(self, message: Unload) -> Unloaded:
        await self._answer(message)
        if message.model not in self.resident:
            raise ModelNotLoaded(message.model)
        self.resident.remove(message.model)
        return Unloaded(message.op, 7)

    async def _answer(self, message: Load | Unload) -> None:
        self.asked.append(message)
        self._answers.append(asyncio.get_running_loop().create_future())
        await self._answers[-1]

    async def answers(self, error: RpcError | None = None) -> None:
        """The oldest request that waits is answered."""
        await settled()
        answer = self._answers.pop(0)
        answer.set_result(None) if error is None else answer.set_exception(error)
        await settled()


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def catalog_for(desk: Desk, *, autoload: bool = True) -> ModelCatalog:
    config = Config(engine="fake", autoload=autoload)
    return ModelCatalog(config, cast(Supervisor, desk), TextPool(config))


Test = Callable[[ModelCatalog, Desk], Coroutine[Any, Any, None]]


def catalogued(test: Test) -> Callable[[], None]:
    def run() -> None:
        async def go() -> None:
            desk = Desk()
            await test(catalog_for(desk, autoload=False), desk)

        asyncio.run(asyncio.wait_for(go(), 60))

    run.__name__ = test.__name__
    return run


async def load(catalog: ModelCatalog, desk: Desk, **params: Any) -> None:
    loading = asyncio.create_task(catalog.load(LoadParams(model="m", **params)))
    await desk.answers()
    await loading


@catalogued
async def test_a_model_is_restored_as_it_was(catalog: ModelCatalog, desk: Desk) -> None:
    await load(catalog, desk, pin=True, ttl_s=5.0)
    assert catalog.engine_lost() == ["m"]
    assert not catalog.holds("m")
    waiting = asyncio.create_task(catalog.ready("m"))
    restoring = asyncio.create_task(catalog.restore("m"))
    await desk.answers()
    await restoring
    assert (await waiting)[0].model == "m"
    again = desk.asked[-1]
    assert isinstance(again, Load)
    assert (again.pin, again.ttl_s, len(desk.asked)) == (True, 5.0, 2)


def test_a_model_whose_engine_is_lost_while_its_tokenizer_is_read_is_restored(monkeypatch: pytest.MonkeyPatch) -> None:
    @catalogued
    async def test(catalog: ModelCatalog, desk: Desk) -> None:
        go_on = asyncio.Event()

        async def slowly(*_: object) -> ModelText:
            await go_on.wait()
            return FakeText()

        monkeypatch.setattr(catalog._files, "_read_text", slowly)
        loading = asyncio.create_task(catalog.load(LoadParams(model="m")))
        await desk.answers()
        assert catalog.engine_lost() == ["m"]
        restoring = asyncio.create_task(catalog.restore("m"))
        go_on.set()
        await loading
        assert not catalog.holds("m")
        await desk.answers()
        await restoring
        assert catalog.holds("m")

    test()


def test_a_model_whose_tokenizer_cannot_be_read_is_not_held(monkeypatch: pytest.MonkeyPatch) -> None:
    async def damaged(*_: object) -> ModelText:
        raise ModelLoadFailed("m", "damaged")

    @catalogued
    async def test(catalog: ModelCatalog, desk: Desk) -> None:
        monkeypatch.setattr(catalog._files, "_read_text", damaged)
        loading = asyncio.create_task(catalog.load(LoadParams(model="m")))
        await desk.answers()
        while len(desk.asked) < 2:
            await asyncio.sleep(0)
        await desk.answers()
        with pytest.raises(ModelLoadFailed):
            await loading
        assert not catalog.holds("m")
        assert isinstance(desk.asked[-1], Unload)

    test()


class SlowText(FakeText):
    """Its templates are compiled when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.compiled: asyncio.Future[None] | None = None

    def compile_templates(self) -> asyncio.Future[None]:
        self.compiled = self.compiled or asyncio.get_running_loop().create_future()
        return self.compiled


def test_the_seconds_of_a_load_count_what_its_text_takes_and_those_of_the_next_load_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = SimpleNamespace(now=100.0)
    text = SlowText()

    @catalogued
    async def test(catalog: ModelCatalog, desk: Desk) -> None:
        read = asyncio.Event()

        async def slowly(*_: object) -> ModelText:
            await read.wait()
            return text

        monkeypatch.setattr(catalog._files, "_read_text", slowly)
        monkeypatch.setattr(model_catalog, "time", SimpleNamespace(monotonic=lambda: clock.now))
        loading = asyncio.create_task(catalog.load(LoadParams(model="m")))
        await desk.answers()
        clock.now += 3
        read.set()
        await settled()
        assert not loading.done()
        assert text.compiled is not None
        clock.now += 4
        text.compiled.set_result(None)
        assert (await loading)[2] == 7.0

        desk.load_s = 0.0
        again = asyncio.create_task(catalog.load(LoadParams(model="m")))
        await desk.answers()
        clock.now += 1
        assert (await again)[2] == 0.0

    test()


def test_a_request_that_loads_its_model_does_not_wait_for_the_templates(monkeypatch: pytest.MonkeyPatch) -> None:
    text = SlowText()

    async def read(*_: object) -> ModelText:
        return text

    async def test() -> None:
        desk = Desk()
        catalog = catalog_for(desk)
        monkeypatch.setattr(catalog._files, "_read_text", read)
        loading = asyncio.create_task(catalog.ready("m"))
        await desk.answers()
        assert (await loading)[1] is text
        assert text.compiled is not None
        assert not text.compiled.done()

    asyncio.run(test())


@catalogued
async def test_an_unload_that_outlives_its_engine_unloads_what_the_next_one_has_loaded_again(
    catalog: ModelCatalog, desk: Desk
) -> None:
    await load(catalog, desk)
    unloading = asyncio.create_task(catalog.unload("m", force=False))
    await settled()
    desk.resident.clear()
    catalog.engine_lost()
    restoring = asyncio.create_task(catalog.restore("m"))
    await settled()
    await desk.answers()  # the unload, which the new engine gets first and knows nothing of
    await desk.answers()
    await restoring
    await desk.answers()
    assert await unloading == 7
    assert not catalog.holds("m")
    assert desk.resident == set()


@pytest.mark.parametrize("force", [False, True])
def test_a_model_is_leaving_while_it_is_unloaded_by_force(force: bool) -> None:
    @catalogued
    async def test(catalog: ModelCatalog, desk: Desk) -> None:
        await load(catalog, desk)
        unloading = asyncio.create_task(catalog.unload("m", force=force))
        await settled()
        assert catalog.is_leaving("m") == force
        await desk.answers()
        await unloading
        assert not catalog.is_leaving("m")

    test()


def test_a_load_that_ends_engines_is_not_tried_once_for_each_request_that_waits_for_it() -> None:
    async def test() -> None:
        desk = Desk()
        catalog = catalog_for(desk)
        waiting = [asyncio.create_task(catalog.ready("m")) for _ in range(4)]
        await desk.answers(EngineLost("loading it ended the engine twice"))
        for request in waiting:
            with pytest.raises(EngineLost, match="ended the engine twice"):
                await request
        assert len(desk.asked) == 1
        later = asyncio.create_task(catalog.ready("m"))
        await desk.answers()
        assert (await later)[0].model == "m"

    asyncio.run(asyncio.wait_for(test(), 60))


@catalogued
async def test_unloading_what_is_not_loaded_is_refused(catalog: ModelCatalog, desk: Desk) -> None:
    unloading = asyncio.create_task(catalog.unload("m", force=False))
    await desk.answers()
    with pytest.raises(ModelNotLoaded):
        await unloading
