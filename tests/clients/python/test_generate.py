"""Generating through the Python client: deltas, results, leaving, waiting for slow readers."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest

from mlx_sidecar_client import Sidecar, SidecarClosed, StreamDelta
from mlx_sidecar_client.protocol.errors import InternalError, InvalidParams, ModelNotFound

from .support import ENDLESS, FAKE, PATIENCE_S, collect, no_stream_runs, peer

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
async def sidecar() -> AsyncIterator[Sidecar]:
    """One for all tests that leave it as it was, on each event loop."""
    async with Sidecar.spawn(**FAKE) as sidecar:
        yield sidecar


async def test_deltas_add_up_to_the_result(sidecar: Sidecar) -> None:
    stream = sidecar.generate("fake?tokens=500&wide=1", prompt="Hello")
    deltas = [delta async for delta in stream]
    assert [delta.seq for delta in deltas] == list(range(len(deltas)))
    assert "".join(delta.text for delta in deltas) == stream.result.text
    assert [token for delta in deltas for token in delta.tokens] == stream.result.tokens
    assert stream.has_result
    assert stream.result.usage.completion_tokens == stream.delivered_tokens == 500


async def test_awaiting_a_generation_gives_the_whole_result(sidecar: Sidecar) -> None:
    result = await sidecar.generate("fake?text=caf%C3%A9", prompt="Hello")
    assert (result.text, result.finish_reason, result.stream) == ("café", "stop", None)


async def test_awaiting_a_stream_that_was_begun_skips_the_deltas_that_are_left(sidecar: Sidecar) -> None:
    stream = sidecar.generate("fake?tokens=5000", prompt="Hello")
    first = await anext(stream)
    result = await stream
    assert result.text is not None
    assert result.text.startswith(first.text)
    assert result.usage.completion_tokens == 5000


async def test_many_streams_run_at_once(sidecar: Sidecar) -> None:
    texts: dict[int, str] = {}

    async def one(sidecar: Sidecar, number: int) -> None:
        stream = sidecar.generate("fake?tokens=200", prompt=f"Hello {number}", window=8, seed=1)
        texts[number] = "".join([delta.text async for delta in stream])
        assert texts[number] == stream.result.text

    async with anyio.create_task_group() as tasks:
        for number in range(40):
            tasks.start_soon(one, sidecar, number)
    assert texts[7] == (await sidecar.generate("fake?tokens=200", prompt="Hello 7", seed=1)).text


async def test_bad_parameters_are_refused_by_name(sidecar: Sidecar) -> None:
    with pytest.raises(InvalidParams) as caught:
        await sidecar.generate("fake", prompt="Hello", temperature=-1)
    assert caught.value.details["errors"][0]["loc"] == ["temperature"]
    with pytest.raises(InvalidParams, match="colour"):
        await sidecar.generate("fake", prompt="Hello", colour="red")  # type: ignore[call-overload]


async def test_a_refused_stream_raises_where_it_is_iterated(sidecar: Sidecar) -> None:
    stream = sidecar.generate("fake?fail_load=model_not_found", prompt="Hello")
    with pytest.raises(ModelNotFound):
        await anext(stream)
    assert (stream.has_result, stream.delivered_tokens) == (False, 0)
    with pytest.raises(RuntimeError, match="no result"):
        stream.result  # noqa: B018


async def test_a_generation_that_breaks_off_raises_after_its_deltas_and_keeps_what_there_was(sidecar: Sidecar) -> None:
    stream = sidecar.generate("fake?tokens=50&fail_after=20", prompt="Hello")
    deltas: list[StreamDelta] = []
    with pytest.raises(InternalError):
        await collect(stream, deltas)
    assert stream.result.finish_reason == "error"
    assert stream.result.usage.completion_tokens == 20
    assert "".join(delta.text for delta in deltas) == stream.result.text


async def test_leaving_the_block_cancels(sidecar: Sidecar) -> None:
    async with sidecar.generate(ENDLESS, prompt="Hello") as stream:
        await anext(stream)
    await no_stream_runs(sidecar)
    assert [delta async for delta in stream] == []


async def test_an_exception_leaves_the_blocks_as_itself_and_cancels(sidecar: Sidecar) -> None:
    with pytest.raises(KeyError, match="mine"):  # noqa: PT012
        async with sidecar.generate(ENDLESS, prompt="Hello") as stream:
            async for _ in stream:
                raise KeyError("mine")
    await no_stream_runs(sidecar)
    with pytest.raises(KeyError, match="mine"):
        async with Sidecar.spawn(**FAKE):
            raise KeyError("mine")


async def test_a_loop_that_is_left_cancels_when_the_stream_is_dropped(sidecar: Sidecar) -> None:
    async for _ in sidecar.generate(ENDLESS, prompt="Hello"):
        break
    gc.collect()
    await no_stream_runs(sidecar)


@pytest.mark.parametrize("whole", [True, False])
async def test_a_cancelled_task_cancels_its_request(sidecar: Sidecar, whole: bool) -> None:
    stream = sidecar.generate("fake?prefill_ms=100000", prompt="Hello")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stream.whole if whole else stream.__anext__)
        with anyio.fail_after(PATIENCE_S):
            while not (await sidecar.stats()).gauges["streams"]:
                await anyio.lowlevel.checkpoint()
        tasks.cancel_scope.cancel()
    await no_stream_runs(sidecar)


async def test_cancel_ends_a_stream_with_what_there_was(sidecar: Sidecar) -> None:
    stream = sidecar.generate(ENDLESS, prompt="Hello")
    texts = [(await anext(stream)).text]
    stream.cancel()
    texts += [delta.text async for delta in stream]
    assert stream.result.finish_reason == "cancelled"
    assert stream.result.text == "".join(texts)


async def test_a_deadline_is_a_result(sidecar: Sidecar) -> None:
    result = await sidecar.generate(ENDLESS, prompt="Hello", deadline_s=0.05)
    assert result.finish_reason == "deadline"


async def test_a_stream_that_nobody_reads_is_not_decoded_further() -> None:
    async with Sidecar.spawn(**FAKE) as sidecar:
        stream = sidecar.generate("fake?tokens=8000", prompt="Hello", window=4)
        await anext(stream)
        seen = [-1.0]
        with anyio.fail_after(PATIENCE_S):
            while len(seen) < 20 or seen[-20] != seen[-1]:
                seen.append((await sidecar.stats()).counters["completion_tokens"])
        assert 0 < seen[-1] < 8000
        assert sum([len(delta.tokens) async for delta in stream]) > 0
        assert stream.result.usage.completion_tokens == 8000


async def test_a_host_that_wants_no_window_gets_none(sidecar: Sidecar) -> None:
    stream = sidecar.generate("fake?tokens=8000", prompt="Hello", window=None)
    await anext(stream)
    await no_stream_runs(sidecar)
    assert (await stream).usage.completion_tokens == 8000


async def test_what_a_newer_sidecar_says_more_does_no_harm(tmp_path: Path) -> None:
    delta = {"stream": "STREAM", "seq": 0, "offset": 0, "text": "hey", "tokens": [1], "mood": "good"}
    usage = {
        "prompt_tokens": 1,
        "cached_tokens": 0,
        "completion_tokens": 1,
        "cached_by_tier": {"ram": 0, "disk": 0, "x": 0},
    }
    ending = {"text": "hey", "tokens": [1], "finish_reason": "stop", "seed": 1, "mood": "good"}
    result = {**ending, "usage": usage, "timing": {"queue_s": 0, "tea_s": 1}}
    lines = [
        {"jsonrpc": "2.0", "method": "weather", "params": {"rain": True}},
        {"jsonrpc": "2.0", "method": "stream/delta", "params": delta},
        {"jsonrpc": "2.0", "id": 999, "result": {}},
        {"jsonrpc": "2.0", "id": "ID", "result": result, "signature": "x"},
    ]
    async with Sidecar.spawn(**peer(tmp_path, *lines)) as sidecar:
        stream = sidecar.generate("any", prompt="Hello")
        assert [delta.text async for delta in stream] == ["hey"]
        assert stream.result.text == "hey"


async def test_a_sidecar_is_of_no_use_outside_its_block() -> None:
    sidecar = Sidecar.spawn(**FAKE)
    with pytest.raises(SidecarClosed):
        await sidecar.ping()
    async with sidecar:
        await sidecar.ping()
    with pytest.raises(SidecarClosed):
        await sidecar.generate("fake", prompt="Hello")


async def test_without_echo_text_the_result_of_a_stream_has_its_text_all_the_same(sidecar: Sidecar) -> None:
    model = "fake?text=<think>Hm.</think>Hello there"
    stream = sidecar.generate(model, messages=[{"role": "user", "content": "x"}], echo_text=False)
    deltas: list[StreamDelta] = []
    await collect(stream, deltas)
    assert stream.result.text == "Hello there" == "".join(delta.text for delta in deltas)
    assert stream.result.tokens == [token for delta in deltas for token in delta.tokens]
    assert stream.result.reasoning == "Hm."
