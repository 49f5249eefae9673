"""``generate`` from parameters to its ending, with a catalog and an engine that do exactly what a test says."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import anyio
import pytest

from mlx_sidecar.link.messages import Cancel, Fault, Finished, ModelCard, Pause, Resume, Submit, Timing, ToEngine
from mlx_sidecar.link.supervisor import Supervisor
from mlx_sidecar.models.catalog import Catalog
from mlx_sidecar.streams.registry import Streams
from mlx_sidecar.text.fake import fake_text
from mlx_sidecar.text.tokenizer import TextModel
from mlx_sidecar.wire.answer import Answer
from mlx_sidecar.wire.context import RequestContext
from mlx_sidecar.wire.generate import Generator
from mlx_sidecar.wire.mailbox import Mailbox
from mlx_sidecar_protocol.errors import Cancelled, InvalidParams, UnknownStream
from mlx_sidecar_protocol.generate import GenerateParams

GONE = Fault("model_not_loaded", "it is not loaded", {"model": "fake"})


class Shelf:
    """A catalog of one model. ``reloading`` is set when the model is asked for again, which then takes for ever."""

    def __init__(self, vocabulary: int = 257) -> None:
        self.reloading = asyncio.Event()
        self._card = ModelCard("fake", "ready", "fake", context_length=100, vocabulary=vocabulary)
        self._evicted = False

    async def ready(self, name: str) -> tuple[ModelCard, TextModel, float]:
        if self._evicted:
            self.reloading.set()
            await asyncio.Event().wait()
        return self._card, fake_text(), 0.0

    def evicted(self, name: str) -> None:
        self._evicted = True


class Desk:
    """An engine that answers each sequence at once with ``fault``, or leaves it running; ``sent`` is what it heard."""

    def __init__(self, fault: Fault | None = None) -> None:
        self.sent: list[Submit] = []
        self.told: list[Cancel | Pause | Resume] = []
        self.heard = asyncio.Event()
        self.streams = Streams(Mailbox(), self.told.append)
        self._fault = fault

    def send(self, message: ToEngine) -> None:
        assert isinstance(message, Submit)
        self.sent.append(message)
        self.heard.set()
        if self._fault is not None:
            self.streams.on_finished(Finished(message.seq, "error", False, Timing(), fault=self._fault))

    def tell(self, message: Cancel | Pause | Resume) -> None:
        """The engine has gone deaf."""
        self.told.append(message)


def generation(shelf: Shelf, desk: Desk, context: RequestContext, **params: Any) -> asyncio.Task[Answer]:
    generator = Generator(cast(Catalog, shelf), desk.streams, cast(Supervisor, desk))
    asked = GenerateParams.parse({"model": "fake", "prompt": "x", **params})
    return asyncio.create_task(generator(context, asked))


async def submitted(**params: Any) -> Submit:
    """What the engine is asked for these parameters."""
    desk = Desk()
    running = generation(Shelf(), desk, RequestContext(1), **params)
    await desk.heard.wait()
    running.cancel()
    await asyncio.wait([running])
    return desk.sent[0]


def test_a_cancel_while_an_evicted_model_is_loaded_again_does_not_wait_for_the_load() -> None:
    async def test() -> None:
        shelf, context = Shelf(), RequestContext(1)
        running = generation(shelf, Desk(GONE), context)
        await shelf.reloading.wait()
        context.cancel()
        with anyio.fail_after(60), pytest.raises(Cancelled):
            await running

    asyncio.run(test())


def test_a_stream_whose_request_was_dropped_can_still_be_asked_about() -> None:
    async def test() -> None:
        desk = Desk()
        running = generation(Shelf(), desk, RequestContext(1), stream="s")
        await desk.heard.wait()
        running.cancel()  # as at the end of the grace that a session gives to an engine that does not react
        await asyncio.wait([running])
        assert desk.streams.find("s").finish_reason == "cancelled"
        desk.streams.cancel("s")
        with pytest.raises(UnknownStream):
            desk.streams.cancel("t")

    asyncio.run(test())


def test_a_prompt_with_tokens_that_only_the_tokenizer_knows_is_refused_by_the_name_it_came_under() -> None:
    async def test() -> None:
        for name, prompt in (("prompt", "\x7f"), ("messages", [{"role": "user", "content": "x"}]), ("tokens", [127])):
            params = {"prompt": None, name: prompt}
            with pytest.raises(InvalidParams) as refused:
                await generation(Shelf(vocabulary=100), Desk(), RequestContext(1), **params)
            assert refused.value.data["errors"][0]["loc"] == [name]

    asyncio.run(test())


@pytest.mark.parametrize(
    ("params", "meant"),
    [
        ({"top_k": 10**40}, {"top_k": 257}),
        ({"temperature": 1e-60}, {"temperature": 0.0}),
        ({"temperature": 0.001}, {"temperature": 0.001}),
        ({"seed": 2**63 - 1}, {"seed": 2**63 - 1}),
    ],
)
def test_numbers_beyond_what_the_engine_computes_with_keep_their_meaning(
    params: dict[str, Any], meant: dict[str, Any]
) -> None:
    sampling = asyncio.run(submitted(**params)).sampling
    assert {name: getattr(sampling, name) for name in meant} == meant


def test_more_tokens_than_the_context_holds_are_as_many_as_it_holds() -> None:
    assert asyncio.run(submitted(max_tokens=10**40)).max_tokens == 99
