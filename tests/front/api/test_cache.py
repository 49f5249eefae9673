"""The operations of the prefix cache in the front, with a catalog and an engine that do exactly what a test says."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, cast

import pytest

from mlx_sidecar.front.api.cache import CacheHandlers
from mlx_sidecar.front.api.model_catalog import ModelCatalog
from mlx_sidecar.front.supervision.supervisor import Supervisor
from mlx_sidecar.front.wire.context import RequestContext
from mlx_sidecar.link import cache_messages
from mlx_sidecar.link import messages as link
from mlx_sidecar_protocol import errors
from mlx_sidecar_protocol.cache import CacheExportParams, CacheImportParams, CacheWarmParams, CacheWarmResult
from mlx_sidecar_protocol.errors import UnsupportedParameter
from mlx_sidecar_protocol.operations import NoParams
from tests.support.desk import GONE, Desk, Shelf
from tests.support.texts import SlowText

DONE = link.Finished(1, "length", True, link.Timing(0.1, 0.5, 0.0), cached_tokens=2, pinned=4)


class Control:
    """The supervisor, as far as these operations need it; ``answer`` is its engine's."""

    def __init__(self, answer: Any = None) -> None:
        self._answer = answer
        self.asked: list[Any] = []

    def next_op(self) -> int:
        return 1

    async def cache(self) -> Any:
        return self._answer

    async def move_cache(self, message: Any) -> Any:
        self.asked.append(message)
        if isinstance(self._answer, Exception):
            raise self._answer
        return self._answer


def handlers(shelf: Shelf, desk: Desk, control: Control | None = None) -> CacheHandlers:
    desk.recovery.attach(desk, shelf)
    return CacheHandlers(
        cast(ModelCatalog, shelf),
        desk.recovery,
        cast(Supervisor, Control() if control is None else control),
    )


def warming(
    shelf: Shelf, desk: Desk, context: RequestContext | None = None, **params: Any
) -> asyncio.Task[CacheWarmResult]:
    asked = CacheWarmParams.parse({"model": "fake", "prompt": "four", **params})
    return asyncio.create_task(handlers(shelf, desk).warm(context or RequestContext(1), asked))


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), 60.0))


def test_a_warm_up_computes_its_prompt_and_tells_what_is_pinned() -> None:
    async def test() -> None:
        desk = Desk()
        running = warming(Shelf(), desk, priority="low")
        await desk.heard.wait()
        assert desk.sent == [link.Submit(1, "fake", list(b"four"), link.Prefill(pin=True), priority="low")]
        desk.recovery.on_finished(DONE)
        assert (await running).to_plain() == {"tokens": 4, "cached_tokens": 2, "pinned_tokens": 4, "prefill_s": 0.5}
        assert not desk.recovery.tasks

    run(test)


def test_a_model_whose_card_says_that_nothing_can_be_cached_is_refused_before_the_engine_is_asked() -> None:
    async def test() -> None:
        desk = Desk()
        with pytest.raises(UnsupportedParameter, match="it keeps no state") as refused:
            await warming(Shelf(uncacheable="it keeps no state"), desk)
        assert refused.value.details["name"] == "model"
        assert not desk.sent

    run(test)


def test_a_prefix_of_messages_does_not_open_an_answer_unless_it_is_to() -> None:
    async def tokens(**params: Any) -> list[int]:
        desk = Desk()
        running = warming(Shelf(), desk, prompt=None, messages=[{"role": "user", "content": "x"}], **params)
        await desk.heard.wait()
        desk.recovery.on_finished(DONE)
        await running
        return desk.sent[0].tokens

    assert bytes(asyncio.run(tokens())) == b"<|user|>x\n"
    assert bytes(asyncio.run(tokens(add_generation_prompt=True))) == b"<|user|>x\n<|assistant|>"


def test_a_warm_up_that_lost_its_engine_is_computed_again_on_the_next() -> None:
    async def test() -> None:
        desk = Desk()
        running = warming(Shelf(), desk)
        await desk.heard.wait()
        desk.recovery.on_engine_lost(frozenset({1}), "test", forced=True)
        desk.recovery.on_engine_ready()
        again = desk.sent[1]
        assert (again.tokens, again.goal, again.again) == (list(b"four"), link.Prefill(pin=True), True)
        desk.recovery.on_finished(DONE)
        assert (await running).pinned_tokens == 4

    run(test)


@pytest.mark.parametrize("phase", ["loading again", "the engine is deaf"])
def test_a_cancelled_warm_up_is_answered_at_once(phase: str) -> None:
    async def test() -> None:
        context, shelf = RequestContext(1), Shelf()
        desk = Desk(GONE if phase == "loading again" else None)
        running = warming(shelf, desk, context)
        await (shelf.loading if phase == "loading again" else desk.heard).wait()
        context.cancel()
        with pytest.raises(errors.Cancelled):
            await running
        assert desk.told == ([link.Cancel(1, "cancelled")] if phase == "the engine is deaf" else [])

    run(test)


@pytest.mark.parametrize("phase", ["loading", "tokenising", "loading again", "the engine is deaf"])
def test_the_deadline_of_a_warm_up_counts_whatever_it_waits_for(phase: str) -> None:
    async def test() -> None:
        slow = SlowText()
        text = slow if phase == "tokenising" else None
        desk = Desk(GONE if phase == "loading again" else None)
        running = warming(Shelf(text=text, evicted=phase == "loading"), desk, prompt="x" * 5000, deadline_s=0.3)
        with pytest.raises(errors.DeadlinePassed):
            await running
        slow.go_on.set()
        assert not desk.recovery.tasks

    run(test)


def test_a_warm_up_that_the_engine_refuses_is_answered_with_its_reason() -> None:
    async def test() -> None:
        full = link.Fault("out_of_memory", "no room", {"need_bytes": 9, "have_bytes": 1})
        with pytest.raises(errors.OutOfMemory):
            await warming(Shelf(), Desk(full))
        with pytest.raises(errors.ContextTooLong):
            await warming(Shelf(), Desk(), prompt=None, tokens=[1] * 100_000)
        leaving = Shelf()
        leaving.leaving = True
        with pytest.raises(errors.ModelNotLoaded):
            await warming(leaving, Desk(GONE))

    run(test)


def test_an_export_of_what_is_not_cached_names_what_the_host_gave() -> None:
    async def test() -> None:
        unknown = Control(errors.InvalidParams.field("tokens", "nothing of it is cached"))
        for given in ({"prompt": "four"}, {"messages": [{"role": "user", "content": "x"}]}, {"tokens": [1]}):
            asked = CacheExportParams.parse({"model": "fake", "path": "/x", **given})
            with pytest.raises(errors.InvalidParams) as refused:
                await handlers(Shelf(), Desk(), unknown).export(RequestContext(1), asked)
            assert [error["loc"] for error in refused.value.details["errors"]] == [list(given)]

    run(test)


def test_a_conversation_goes_to_the_file_that_was_named_and_comes_from_it() -> None:
    async def test() -> None:
        control = Control(cache_messages.CacheMoved(1, 4, 900))
        cache = handlers(Shelf(), Desk(), control)
        export = CacheExportParams.parse({"model": "fake", "path": "/x", "prompt": "four"})
        taken = CacheImportParams.parse({"model": "fake", "path": "/x"})
        for result in (await cache.export(RequestContext(1), export), await cache.import_(RequestContext(1), taken)):
            assert result.to_plain() == {"tokens": 4, "nbytes": 900}
        assert control.asked == [
            cache_messages.ExportCache(1, "fake", list(b"four"), "/x"),
            cache_messages.ImportCache(1, "fake", "/x"),
        ]

    run(test)


def test_figures_leave_out_what_there_is_not() -> None:
    figures = cache_messages.CacheFigures(
        op=1,
        block_tokens=64,
        ram_limit_bytes=100,
        ram_bytes=60,
        pinned_bytes=20,
        ram_blocks=3,
        nodes=5,
        index_bytes=700,
        disk_state="off",
        disk_because="",
        disk_path="",
        disk_limit_bytes=99,
        disk_bytes=0,
        disk_blocks=0,
        disk_files=0,
        disk_pending_bytes=0,
        counters={"hits": 1},
        models=[cache_messages.CachedModel("a", "id"), cache_messages.CachedModel("b", "", "its state is recurrent")],
    )

    async def test() -> None:
        stats = (await handlers(Shelf(), Desk(), Control(figures)).stats(RequestContext(1), NoParams())).to_plain()
        assert stats == {
            "block_tokens": 64,
            "ram": {"limit_bytes": 100, "used_bytes": 60, "pinned_bytes": 20, "blocks": 3},
            "disk": {"state": "off", "used_bytes": 0, "pending_bytes": 0, "blocks": 0, "files": 0},
            "index": {"nodes": 5, "nbytes": 700},
            "counters": {"hits": 1},
            "models": [
                {"model": "a", "cacheable": True, "identity": "id"},
                {"model": "b", "cacheable": False, "because": "its state is recurrent"},
            ],
        }

    run(test)
