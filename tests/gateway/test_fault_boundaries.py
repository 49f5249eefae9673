"""Faults at every event boundary of a stream of 20 events, on every route that streams.

The sidecar's client, front and engine are real, but in this process. A stream waits behind each of its events, so that
one fault strikes all boundaries and all routes.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import anyio
import pytest

from mlx_sidecar.front.output.chat_parser import ChatParser
from mlx_sidecar_client.protocol.stats import StatsResult
from tests.gateway.endings import ANSWERS, Ended, Kind, Spoken, streaming_routes
from tests.gateway.in_memory import ARRIVAL, Arrival, InMemory, Visit, gateway_over, holding, in_memory
from tests.support.parsed import THINK, formats

pytestmark = pytest.mark.anyio

EVENTS = 20
ROUTES = streaming_routes()
each_route = pytest.mark.parametrize("spoken", ROUTES, ids=lambda spoken: spoken.path)

Strike = Callable[[InMemory], Awaitable[None]]


def boundaries(answer: Kind) -> list[int]:
    """The tokens that an answer has at each boundary between its events: before the first, ..., behind the last."""
    text = ANSWERS[answer]
    if answer == "plain":
        return list(range(len(text) + 1))
    parser = ChatParser(formats(reasoning=THINK), [{"type": "function", "function": {"name": "f"}}])
    return [0, *(at for at, token in enumerate(text, 1) if parser.push(token, [0]))]


@dataclass(frozen=True)
class Struck:
    """A stream that was struck behind ``tokens`` tokens, how it ended, and how it would have."""

    path: str
    tokens: int
    ended: Ended
    whole: Ended

    def is_broken_off(self, error: str) -> bool:
        """Whether it ended with ``error``, behind a beginning of the answer."""
        return self.ended.error in (error, "response.failed") and self.ended.begins(self.whole)


@pytest.fixture(scope="module")
async def memory(anyio_backend: str) -> AsyncIterator[InMemory]:
    async with in_memory() as made:
        yield made


@pytest.fixture(scope="module")
async def undisturbed(memory: InMemory) -> dict[str, Ended]:
    """The whole answer of each route, by its path."""
    return {spoken.path: await ended(memory, spoken, spoken.model()) for spoken in ROUTES}


async def ended(memory: InMemory, spoken: Spoken, model: str) -> Ended:
    return judged(spoken, await memory.visit(spoken.path, spoken.body(model)).run())


def judged(spoken: Spoken, visit: Visit) -> Ended:
    assert visit.is_complete
    return spoken.ended(visit.status, visit.body)


async def struck(memory: InMemory, undisturbed: dict[str, Ended], strike: Strike, **options: Any) -> list[Struck]:
    """Strike a stream of every route at every boundary, and judge how they end.

    ``options`` are those of the visits; each has a model of its own.
    """
    outcomes: list[Struck] = []
    with holding() as gate:

        async def one(spoken: Spoken, arrival: Arrival) -> None:
            ARRIVAL.set(arrival)
            body = spoken.body(spoken.model(context=gate.context(arrival.after)))
            ended = judged(spoken, await memory.visit(spoken.path, body, **options).run())
            outcomes.append(Struck(spoken.path, arrival.after, ended, undisturbed[spoken.path]))

        async with anyio.create_task_group() as tasks:
            arrivals = []
            for spoken in ROUTES:
                for tokens in boundaries(spoken.answer):
                    arrivals.append(Arrival(tokens))
                    tasks.start_soon(one, spoken, arrivals[-1])
            for arrival in arrivals:
                await arrival.there.wait()
            await until_running(memory, len(arrivals))
            await strike(memory)
            gate.is_open = True
            await memory.sidecar.generate("fake", prompt="x")  # so that the engine looks again
    assert len(outcomes) == len(ROUTES) * (EVENTS + 1)
    return outcomes


async def until_running(memory: InMemory, count: int) -> None:
    while (await memory.sidecar.stats()).queue.running < count:
        pass


def assert_broken_off(outcomes: list[Struck], error: str) -> None:
    """Each ended with the error, behind all that had been said; plain text, of which a token is a letter, shows it."""
    assert [outcome for outcome in outcomes if not outcome.is_broken_off(error)] == []
    plain = [outcome for outcome in outcomes if outcome.path == "/completions"]
    assert [outcome for outcome in plain if len(outcome.ended.text) != outcome.tokens] == []


def test_each_answer_has_twenty_events() -> None:
    assert {answer: len(boundaries(answer)) - 1 for answer in ANSWERS} == dict.fromkeys(ANSWERS, EVENTS)


async def test_undisturbed_answers_are_whole_and_say_all_that_their_surface_has_a_place_for(
    undisturbed: dict[str, Ended],
) -> None:
    for spoken in ROUTES:
        whole = undisturbed[spoken.path]
        assert whole.error is None
        if spoken.answer == "chat":
            assert (whole.reasoning, whole.text.strip(), whole.calls) == ("why", "Hi to you!", (("f", '{"a": 12}'),))
        assert len(whole.reasoning + whole.text) >= len("Who?It is all")


async def test_the_death_of_the_engine_changes_nothing(memory: InMemory, undisturbed: dict[str, Ended]) -> None:
    async def kill(memory: InMemory) -> None:
        memory.sidecar.kill_engine()

    outcomes = await struck(memory, undisturbed, kill)
    assert [outcome for outcome in outcomes if outcome.ended != outcome.whole] == []
    assert (await memory.sidecar.stats()).health.restarts >= 1


async def test_the_end_of_the_gateway_breaks_answers_off(memory: InMemory, undisturbed: dict[str, Ended]) -> None:
    ending = gateway_over(memory.sidecar)

    async def end(memory: InMemory) -> None:
        memory.gateway.stop_answers()

    assert_broken_off(await struck(ending, undisturbed, end), "shutting_down")
    await memory.sidecar_is_idle()


async def test_an_answer_whose_request_was_still_being_read_when_the_gateway_ended_is_refused(memory: InMemory) -> None:
    ending = gateway_over(memory.sidecar)
    ending.gateway.is_draining = True
    ending.gateway.stop_answers()
    for spoken in ROUTES:
        assert (await ended(ending, spoken, spoken.model())).error in ("shutting_down", "response.failed")


async def test_a_deadline_breaks_answers_off(undisturbed: dict[str, Ended]) -> None:
    hour_s = 3600

    async def let_it_pass(memory: InMemory) -> None:
        memory.sidecar.process.server.clock.put_forward(hour_s)
        await memory.sidecar_is_idle()

    async with in_memory() as own:
        headers = [("x-mlx-sidecar-deadline-s", str(hour_s))]
        outcomes = await struck(own, undisturbed, let_it_pass, headers=headers)
        assert_broken_off(outcomes, "deadline_passed")


async def test_the_loss_of_the_sidecar_breaks_answers_off_and_the_next_ones_are_whole(
    undisturbed: dict[str, Ended],
) -> None:
    async def lose(memory: InMemory) -> None:
        memory.sidecar.process.kill()

    async with in_memory() as own:
        outcomes = await struck(own, undisturbed, lose)
        # A request of which nothing had come was sent again.
        assert [outcome for outcome in outcomes if not outcome.tokens and outcome.ended != outcome.whole] == []
        assert_broken_off([outcome for outcome in outcomes if outcome.tokens], "engine_lost")
        for spoken in ROUTES:
            assert await ended(own, spoken, spoken.model()) == undisturbed[spoken.path]


async def test_a_poison_request_breaks_off_behind_its_last_token(
    memory: InMemory, undisturbed: dict[str, Ended]
) -> None:
    outcomes: list[Struck] = []

    async def one(spoken: Spoken, tokens: int) -> None:
        told = await ended(memory, spoken, spoken.model(poison_raise=tokens))
        outcomes.append(Struck(spoken.path, tokens, told, undisturbed[spoken.path]))

    for spoken in ROUTES:
        async with anyio.create_task_group() as tasks:
            for tokens in boundaries(spoken.answer)[:-1]:
                tasks.start_soon(one, spoken, tokens)
    assert_broken_off(outcomes, "poison_request")


@each_route
async def test_a_request_that_ends_every_engine_is_told_so(
    memory: InMemory, undisturbed: dict[str, Ended], spoken: Spoken
) -> None:
    for tokens in boundaries(spoken.answer)[1:-1:6]:
        told = await ended(memory, spoken, spoken.model(poison_after=tokens))
        assert told.error in ("poison_request", "response.failed")
        assert told.begins(undisturbed[spoken.path])


@pytest.mark.parametrize("answer", ANSWERS)
async def test_a_lack_of_memory_changes_nothing(memory: InMemory, undisturbed: dict[str, Ended], answer: Kind) -> None:
    """A model has memory for one stream of each route; the step that has one more fails, at every boundary once."""
    routes = [spoken for spoken in ROUTES if spoken.answer == answer]
    with holding() as gate:

        async def one(spoken: Spoken, arrival: Arrival) -> None:
            ARRIVAL.set(arrival)
            model = spoken.model(memory_rows=len(routes), context=gate.context(arrival.after))
            assert await ended(memory, spoken, model) == undisturbed[spoken.path]

        failures = failures_of(await memory.sidecar.stats())
        for tokens in boundaries(answer):
            gate.is_open = False
            async with anyio.create_task_group() as tasks:
                arrivals = [Arrival(tokens) for _ in routes]
                for spoken, arrival in zip(routes, arrivals, strict=True):
                    tasks.start_soon(one, spoken, arrival)
                for arrival in arrivals:
                    await arrival.there.wait()
                await until_running(memory, len(routes))
                tasks.start_soon(one, routes[0], Arrival(tokens))
                # The step that it shares with the others fails before the gate opens, or, at the first boundary, after.
                while (stats := await memory.sidecar.stats()).queue.running <= len(routes):
                    if failures_of(stats) > failures:
                        break
                gate.is_open = True
                await memory.sidecar.generate("fake", prompt="x")  # so that the engine looks again
            stats = await memory.sidecar.stats()
            assert failures_of(stats) > failures
            memory.sidecar.kill_engine()  # the next one does not know how little memory there is
            failures = await failures_of_next_engine(memory, stats.health.restarts)


def failures_of(stats: StatsResult) -> int:
    return stats.counters.get("allocation_failures", 0)


async def failures_of_next_engine(memory: InMemory, restarts: int) -> int:
    """The failed allocations that are counted when another engine is there."""
    while (stats := await memory.sidecar.stats()).health.restarts == restarts or stats.engine.state != "ready":
        pass
    return failures_of(stats)
