"""``generate`` from parameters to its ending, with a catalog and an engine that do exactly what a test says."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import anyio
import pytest

from mlx_sidecar.front.api.adapters import AdapterUses
from mlx_sidecar.front.api.forms import Forms
from mlx_sidecar.front.api.generate import Generator
from mlx_sidecar.front.api.generate_result import Answer
from mlx_sidecar.front.api.model_catalog import ModelCatalog
from mlx_sidecar.front.api.model_text import ModelText
from mlx_sidecar.front.sessions.store import SessionStore
from mlx_sidecar.front.supervision.text_pool import TextPool
from mlx_sidecar.front.wire.context import RequestContext
from mlx_sidecar.link.control_messages import ModelCard
from mlx_sidecar.link.messages import Cancel, Finished, Generate, Nearest, Submit, Timing, TokenLogprob, Tokens
from mlx_sidecar_protocol.errors import (
    Cancelled,
    DuplicateStream,
    EngineLost,
    InvalidParams,
    ModelNotLoaded,
    UnknownStream,
)
from mlx_sidecar_protocol.generate import GenerateParams
from mlx_sidecar_protocol.generate_result import GenerateResult
from tests.support.desk import GONE, Desk, Shelf
from tests.support.texts import SlowText, TextsHere


def generation(shelf: Shelf, desk: Desk, context: RequestContext, **params: Any) -> asyncio.Task[Answer]:
    desk.recovery.attach(desk, shelf)
    generator = Generator(
        cast(ModelCatalog, shelf),
        desk.streams,
        desk.recovery,
        Forms(cast(TextPool, TextsHere())),
        SessionStore(8, 2**20),
        AdapterUses(),
    )
    asked = GenerateParams.parse({"model": "fake", "prompt": "x", **params})
    return asyncio.create_task(generator(context, asked))


async def submitted(**params: Any) -> tuple[Submit, Generate]:
    """The submission for these parameters, and its goal."""
    desk = Desk()
    running = generation(Shelf(), desk, RequestContext(1), **params)
    await desk.heard.wait()
    running.cancel()
    await asyncio.wait([running])
    return desk.sent[0], goal_of(desk)


def goal_of(desk: Desk) -> Generate:
    goal = desk.sent[0].goal
    assert isinstance(goal, Generate)
    return goal


def test_a_cancel_while_an_evicted_model_is_loaded_again_does_not_wait_for_the_load() -> None:
    async def test() -> None:
        shelf, context = Shelf(), RequestContext(1)
        running = generation(shelf, Desk(GONE), context)
        await shelf.loading.wait()
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
        ({"temperature": 0.001}, {"temperature": 0.001}),
        ({"seed": 2**63 - 1}, {"seed": 2**63 - 1}),
    ],
)
def test_numbers_beyond_what_the_engine_computes_with_keep_their_meaning(
    params: dict[str, Any], meant: dict[str, Any]
) -> None:
    sampling = asyncio.run(submitted(**params))[1].sampling
    assert {name: getattr(sampling, name) for name in meant} == meant


def test_more_tokens_than_the_context_holds_are_as_many_as_it_holds() -> None:
    assert asyncio.run(submitted(max_tokens=10**40))[1].max_tokens == 99_999


@pytest.mark.parametrize("priority", ["critical", "high", "normal", "low"])
def test_the_engine_is_told_priority_and_log_probabilities(priority: str) -> None:
    submit, goal = asyncio.run(submitted(priority=priority, logprobs=3))
    assert (submit.priority, goal.sampling.logprobs, submit.deadline_s) == (priority, 3, None)


def test_the_engine_is_told_what_is_left_until_the_deadline() -> None:
    left = asyncio.run(submitted(deadline_s=3600.0))[0].deadline_s
    assert left is not None
    assert left < 3600.0


@pytest.mark.parametrize("stream", [None, "s"])
@pytest.mark.parametrize("phase", ["loading", "tokenising", "loading again", "the engine is deaf"])
def test_a_deadline_ends_a_request_whatever_it_waits_for(phase: str, stream: str | None) -> None:
    async def test() -> GenerateResult:
        slow = SlowText()
        text = slow if phase == "tokenising" else None
        shelf = Shelf(text=text, evicted=phase == "loading")
        desk = Desk(GONE if phase == "loading again" else None)
        params = {"prompt": "x" * 5000, "deadline_s": 0.3, "seed": 3, "stream": stream}
        answer = await generation(shelf, desk, RequestContext(1), **params)
        slow.go_on.set()
        assert desk.told == ([Cancel(1, "deadline")] if phase == "the engine is deaf" else [])
        assert not desk.recovery.tasks
        result = answer()
        assert isinstance(result, GenerateResult)
        return result

    result = asyncio.run(test())
    assert (result.finish_reason, result.text, result.tokens, result.seed) == ("deadline", "", [], 3)
    tokenised = phase in ("loading again", "the engine is deaf")
    assert (result.usage.prompt_tokens, result.usage.completion_tokens) == (5000 * tokenised, 0)
    assert (result.error, result.last_seq) == (None, None)


def test_what_a_deaf_engine_says_after_the_deadline_is_nobodys() -> None:
    async def test() -> None:
        desk = Desk()
        running = generation(Shelf(), desk, RequestContext(1), deadline_s=2.0, stream="s")
        await desk.heard.wait()
        desk.recovery.on_tokens(Tokens(1, list(b"in time")))
        answer = await running
        desk.recovery.on_tokens(Tokens(1, list(b" and late")))
        desk.recovery.on_finished(Finished(1, "length", True, Timing()))
        result = answer()
        assert isinstance(result, GenerateResult)
        assert (result.text, result.finish_reason) == ("in time", "deadline")

    asyncio.run(test())


def test_the_log_probabilities_of_an_answer_are_left_out_with_its_text() -> None:
    async def answer(**params: Any) -> dict[str, Any]:
        desk = Desk()
        running = generation(Shelf(), desk, RequestContext(1), logprobs=1, stream="s", **params)
        await desk.heard.wait()
        desk.recovery.on_tokens(Tokens(1, [65], [TokenLogprob(-1.0, [(66, -0.5)])]))
        desk.recovery.on_finished(Finished(1, "stop", True, Timing()))
        return (await running)().to_plain()

    entry = {"token": 65, "text": "A", "logprob": -1.0, "top": [{"token": 66, "text": "B", "logprob": -0.5}]}
    assert asyncio.run(answer())["logprobs"] == [entry]
    assert "logprobs" not in asyncio.run(answer(echo_text=False))


def test_a_name_is_taken_until_the_answer_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    encoding, go_on = asyncio.Event(), asyncio.Event()

    async def encoded(*_: object) -> bytes:
        encoding.set()
        await go_on.wait()
        return b"[]"

    monkeypatch.setattr("mlx_sidecar.front.api.generate.encoded_logprobs", encoded)

    async def test() -> None:
        desk = Desk()
        first = generation(Shelf(), desk, RequestContext(1), stream="s", logprobs=20)
        await desk.heard.wait()
        desk.recovery.on_tokens(Tokens(1, [65], [TokenLogprob(-1.0, [])]))
        desk.recovery.on_finished(Finished(1, "stop", True, Timing()))
        await encoding.wait()
        with pytest.raises(DuplicateStream):
            await generation(Shelf(), desk, RequestContext(2), stream="s")
        go_on.set()
        await first

    asyncio.run(test())


def test_a_stream_for_which_there_was_no_engine_is_not_remembered_as_one_that_runs() -> None:
    class Away(Desk):
        def wake(self, *, urgent: bool = False) -> None:
            raise EngineLost("test")

    async def test() -> None:
        desk = Away()
        with pytest.raises(EngineLost):
            await generation(Shelf(), desk, RequestContext(1), stream="s")
        with pytest.raises(UnknownStream):
            desk.streams.find("s")

    asyncio.run(test())


def test_what_was_generated_before_and_needed_no_prefill_again_is_no_part_of_the_prompt() -> None:
    async def test() -> None:
        desk = Desk()
        running = generation(Shelf(), desk, RequestContext(1), prompt="four")
        await desk.heard.wait()
        desk.recovery.on_tokens(Tokens(1, [65] * 9))
        desk.recovery.on_finished(Finished(1, "stop", True, Timing(), cached_tokens=12, cached_disk=3))
        usage = (await running)().to_plain()["usage"]
        assert usage == {
            "prompt_tokens": 4,
            "cached_tokens": 4,
            "cached_by_tier": {"ram": 1, "disk": 3},
            "completion_tokens": 9,
        }

    asyncio.run(test())


def test_a_request_whose_model_is_unloaded_by_force_does_not_bring_it_back() -> None:
    async def test() -> None:
        shelf = Shelf()
        shelf.leaving = True
        with pytest.raises(ModelNotLoaded):
            await generation(shelf, Desk(GONE), RequestContext(1))

    asyncio.run(test())


def test_loading_takes_no_longer_than_the_request_waited() -> None:
    class Joined(Shelf):
        """Its load was begun by a request before."""

        async def ready(self, name: str) -> tuple[ModelCard, ModelText, float]:
            card, text, _ = await super().ready(name)
            return card, text, 1000.0

    async def test() -> None:
        desk = Desk()
        running = generation(Joined(), desk, RequestContext(1))
        await desk.heard.wait()
        desk.recovery.on_tokens(Tokens(1, [65]))
        desk.recovery.on_finished(Finished(1, "stop", True, Timing()))
        timing = (await running)().to_plain()["timing"]
        assert timing["load_s"] <= timing["first_token_s"]

    asyncio.run(test())


async def explained(desk: Desk, shelf: Shelf, nearest: Nearest | None, **params: Any) -> dict[str, Any]:
    """The result of a request for "four", when ``nearest`` was the nearest known prompt."""
    running = generation(shelf, desk, RequestContext(1), prompt="four", **params)
    await desk.heard.wait()
    desk.recovery.on_tokens(Tokens(1, [65]))
    desk.recovery.on_finished(Finished(1, "stop", True, Timing(), nearest=nearest))
    return (await running)().to_plain()


def test_where_a_prompt_left_the_known_one_is_told_to_who_asked() -> None:
    async def test() -> None:
        nearest = Nearest(2, 0, list(b"foam"))
        desk = Desk()
        told = (await explained(desk, Shelf(), nearest, explain_cache=True))["cache"]
        assert goal_of(desk).explain
        assert (told["known_tokens"], told["because"]) == (2, "changed_text")
        assert (told["text_before"], told["text_here"], told["text_known"]) == ("fo", "ur", "am")
        assert told["where"] == {"field": "prompt", "path": ["prompt"]}
        assert "cache" not in await explained(Desk(), Shelf(), nearest)

    asyncio.run(test())


def test_a_request_that_never_came_to_an_engine_is_not_explained() -> None:
    async def test() -> None:
        shelf = Shelf(evicted=True)
        result = (await generation(shelf, Desk(), RequestContext(1), deadline_s=0.1, explain_cache=True))().to_plain()
        assert (result["finish_reason"], "cache" in result) == ("deadline", False)

    asyncio.run(test())


def test_a_stream_that_went_on_elsewhere_is_explained_by_its_last_engine() -> None:
    async def test() -> None:
        desk = Desk()
        running = generation(Shelf(), desk, RequestContext(1), prompt="four", explain_cache=True)
        await desk.heard.wait()
        desk.recovery.on_tokens(Tokens(1, [65]))
        desk.recovery.on_engine_lost(frozenset({1}), "test", forced=True)
        desk.recovery.on_engine_ready()
        assert desk.sent[1].tokens == [*b"four", 65]
        whole = Nearest(5, 0, [*b"four", 65])  # the token that came of it is no part of the prompt
        desk.recovery.on_finished(Finished(1, "stop", True, Timing(), cached_tokens=4, cached_disk=4, nearest=whole))
        result = (await running)().to_plain()
        assert (result["cache"]["known_tokens"], result["cache"]["because"]) == (4, "all_known")
        assert result["usage"]["cached_by_tier"] == {"ram": 0, "disk": 4}

    asyncio.run(test())
