"""Under more load than it can take the gateway answers what it can, and tells the others truly when to come back."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlx_sidecar_gateway.core.comebacks import LEAST_S, LONGEST_S, Comebacks
from tests.gateway.support import PATIENCE_S, Response, Running, ask, running

# Bodies of so many bytes, of which the sidecar works on eight at once.
BODY_BYTES, AT_ONCE = 4000, 8
RAMP = (2, 4, 8, 16, 32, 16)


class Clock:
    """A clock that goes when it is told to."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


async def request(gateway: Running, path: str) -> Response:
    body = {"model": "fake?text=done&delay_ms=2", "max_tokens": 100}
    text = "x" * BODY_BYTES
    return await ask(gateway.port, path, {**body, "messages": [{"role": "user", "content": text}]})


async def wave(gateway: Running, count: int) -> list[Response]:
    """So many requests at once, half of them Anthropic's."""
    responses = []

    async def one(number: int) -> None:
        responses.append(await request(gateway, "/v1/messages" if number % 2 else "/v1/chat/completions"))

    async with anyio.create_task_group() as tasks:
        for number in range(count):
            tasks.start_soon(one, number)
    return responses


@given(st.floats(0.05, 5.0), st.lists(st.floats(0, 2), max_size=50))
def test_no_two_refused_clients_are_told_the_same_place(interval_s: float, gaps: list[float]) -> None:
    clock = Clock()
    comebacks, told = Comebacks(clock), list[float]()
    for gap in gaps:
        clock.now_s += gap
        wait_s = comebacks.wait_s(interval_s)
        assert LEAST_S <= wait_s + 1e-9 <= LONGEST_S + 1e-9
        if wait_s < LONGEST_S:
            told.append(clock.now_s + wait_s)
    assert all(later - earlier >= interval_s * 0.999 for earlier, later in pairwise(told))


@given(st.integers(1, 8), st.integers(1, 60), st.floats(0.1, 2.0))
def test_each_of_them_finds_a_place_when_it_comes_as_it_was_told_and_no_others_do(
    places: int, clients: int, work_s: float
) -> None:
    """A server of so many places, all taken, where each request takes ``work_s``."""
    clock = Clock()
    comebacks = Comebacks(clock)
    ends = [(number + 1) * work_s / places for number in range(places)]
    for end in (end - work_s for end in ends):  # those before them
        clock.now_s = end
        comebacks.ended(is_last=False)
    arrivals = sorted(comebacks.wait_s(1e9) + clock.now_s for _ in range(clients))
    for arrival in arrivals:
        if arrival - clock.now_s < LONGEST_S:
            earliest = ends.index(min(ends))
            assert ends[earliest] <= arrival + 1e-6
            ends[earliest] = arrival + work_s


def test_a_time_in_which_nothing_ran_counts_for_nothing() -> None:
    clock = Clock()
    comebacks = Comebacks(clock)
    for end_s, is_last in ((1.0, False), (1.5, True), (5000.0, False), (5000.5, False)):
        clock.now_s = end_s
        comebacks.ended(is_last=is_last)
    assert [comebacks.wait_s(60.0) for _ in range(3)] == pytest.approx([1.0, 1.5, 2.0])


@pytest.mark.anyio
async def test_on_a_ramp_each_request_is_answered_or_told_when_to_come_back() -> None:
    limit = str(AT_ONCE * (BODY_BYTES + 400))
    with anyio.fail_after(PATIENCE_S):
        async with running(options=("--engine", "fake", "--requests-limit-bytes", limit)) as gateway:
            assert (await request(gateway, "/v1/messages")).status == 200
            answered = Counter[int]()
            for count in RAMP:
                responses = await wave(gateway, count)
                statuses = Counter(response.status for response in responses)
                answered += statuses
                assert statuses.keys() <= {200, 503, 529}
                # The sidecar's bound is one of bytes, and lets as many pass whatever comes.
                assert statuses[200] >= min(count, AT_ONCE)
                for response in responses:
                    if response.status != 200:
                        assert 1 <= int(response.headers["retry-after"]) <= 60
                        assert int(response.headers["retry-after-ms"]) <= int(response.headers["retry-after"]) * 1000
                        assert response.headers["x-should-retry"] == "true"
            assert answered[503]
            assert answered[529]
            assert (await request(gateway, "/v1/messages")).status == 200
