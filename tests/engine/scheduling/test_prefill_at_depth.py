"""A long prompt beside streams costs them little at any depth: a planner on a device whose costs are known."""

from __future__ import annotations

import math
from collections.abc import Sequence as Values
from dataclasses import replace

import pytest

from mlx_sidecar.engine.core.batch import Role, Work
from mlx_sidecar.engine.core.sequence import Sequence
from mlx_sidecar.engine.scheduling.step_planner import OLDEST_SHARE
from tests.support.synthetic_device import Costs, Simulation

LONG = 16_384
SHORT = 32
STREAMS = 8

# As a model of 16M on one core of a CPU, and as one of several billions on a GPU.
CPU = Costs(step_s=4e-3, row_s=5e-4, token_s=5e-4, row_depth_s=5e-7, token_depth_s=5e-7)
GPU = Costs(step_s=2e-2, row_s=1e-5, token_s=1e-4, row_depth_s=2e-8, token_depth_s=1e-8)
DEVICES = {
    "cpu": CPU,
    "gpu": GPU,
    "cpu, noisy": replace(CPU, noise=0.1),
    "gpu, noisy": replace(GPU, noise=0.1),
    "cpu, outliers": replace(CPU, noise=0.05, outliers=0.005),
    "cpu, attention dear": replace(CPU, token_depth_s=2e-6, noise=0.05),
    "cpu, windows": replace(CPU, window=1024, noise=0.05),
}


def percentile(values: Values[float], percent: float) -> float:
    return sorted(values)[math.ceil(percent / 100 * len(values)) - 1]


def decoding(device: str, streams: int = STREAMS, depth: int = SHORT) -> Simulation:
    """Return a simulation in which ``streams`` decode, and have done for a while."""
    simulation = Simulation(DEVICES[device])
    for _ in range(streams):
        simulation.submit(depth)
    while len(simulation.first_s) < streams or len(simulation.steps) < 40:
        simulation.step()
    simulation.steps.clear()
    return simulation


def until_first_token(simulation: Simulation, *sequences: Sequence) -> None:
    for _ in range(40_000):
        if all(sequence.id in simulation.first_s for sequence in sequences):
            return
        simulation.step()
    pytest.fail("a prompt is never done")


def gaps(simulation: Simulation) -> list[float]:
    """Return how long each step was that could be shorter, in steps in which the same rows only decode."""
    return [
        took_s / decode_s
        for work, took_s, decode_s in simulation.steps
        if decode_s and [part.tokens for part in work if part.role is Role.PREFILL] != [1]
    ]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("streams", [1, STREAMS, 31])
def test_gaps_beside_a_long_prompt_stay_below_three_decode_steps(device: str, streams: int) -> None:
    simulation = decoding(device, streams)
    until_first_token(simulation, simulation.submit(LONG))
    assert percentile(gaps(simulation), 99) <= 3.0


@pytest.mark.parametrize("device", DEVICES)
def test_short_prompts_wait_five_steps_beyond_their_own_prefill_beside_a_long_one_and_gaps_hold(device: str) -> None:
    simulation, costs = decoding(device), DEVICES[device]
    waits: list[float] = []
    long = simulation.submit(LONG)
    while long.known < LONG - 1 and len(waits) < 500:
        simulation.step()  # the short one arrives while a step runs, and waits for it
        _, began_s, decode_s = simulation.steps[-1]
        short = simulation.submit(SHORT, 1)
        until_first_token(simulation, short)
        own_s = SHORT * (costs.token_s + costs.token_depth_s * SHORT / 2)
        waits.append((simulation.first_s[short.id] - short.asked.arrived_s + began_s / 2 - own_s) / decode_s)
    assert percentile(waits, 95) <= 5.0
    assert percentile(gaps(simulation), 99) <= 3.0


@pytest.mark.parametrize("device", DEVICES)
def test_short_prompts_that_come_now_and_then_do_not_wait_for_a_measurement(device: str) -> None:
    simulation = decoding(device)
    long = simulation.submit(LONG)
    waited: list[list[Work]] = []
    for _ in range(100):
        for _ in range(5):
            simulation.step()
        if long.known >= LONG - 1:
            break
        begun = len(simulation.steps)
        until_first_token(simulation, simulation.submit(SHORT, 1))
        waited += [work for work, _, _ in simulation.steps[begun:-1]]
    assert waited or "gpu" in device, "else a short prompt takes one step"
    assert all(any(part.role is Role.PREFILL for part in work) for work in waited)
    assert any(all(part.role is Role.DECODE for part in work) for work, _, _ in simulation.steps)


@pytest.mark.parametrize("device", DEVICES)
def test_a_token_is_charged_the_price_of_its_own_depth(device: str) -> None:
    simulation, costs = decoding(device), DEVICES[device]
    until_first_token(simulation, simulation.submit(LONG // 2))
    until_first_token(simulation, simulation.submit(LONG // 2), *(simulation.submit(SHORT) for _ in range(20)))
    cost = simulation.planner.token_cost("m")
    for depth in (SHORT // 2, LONG // 2):
        true = costs.token_s + costs.token_depth_s * min(costs.window, depth)
        assert cost.at(depth) == pytest.approx(true, rel=0.35)


@pytest.mark.parametrize("device", DEVICES)
def test_chunks_shrink_with_depth_and_the_prompt_is_done_in_the_time_that_its_share_allows(device: str) -> None:
    simulation, costs = decoding(device), DEVICES[device]
    long = simulation.submit(LONG)
    until_first_token(simulation, long)
    pieces = [part.tokens for work, _, _ in simulation.steps for part in work if part.sequence is long]
    eighth = len(pieces) // 8
    if costs.window > LONG:
        assert sum(pieces[-eighth:-1]) < sum(pieces[1:eighth])
    took_s = sum(took_s for _, took_s, _ in simulation.steps)
    alone_s = LONG * (costs.token_s + costs.token_depth_s * min(costs.window, LONG / 2))
    assert took_s <= 2.5 * alone_s, "more than half of the time is for it"


@pytest.mark.parametrize("device", DEVICES)
def test_a_long_prompt_goes_on_under_an_endless_stream_of_short_ones(device: str) -> None:
    simulation, costs = decoding(device), DEVICES[device]
    long = simulation.submit(LONG)
    until_first_token(simulation, *(simulation.submit(SHORT) for _ in range(4)))  # all costs are known
    simulation.steps.clear()
    spent = {True: 0.0, False: 0.0}
    before, shorts = long.known, [simulation.submit(200, 1) for _ in range(6)]
    while long.known < LONG - 1 and len(simulation.steps) < 1500:
        shorts = [short if short.id in simulation.running else simulation.submit(200, 1) for short in shorts]
        for sequence, tokens, role in simulation.step():
            if role is Role.PREFILL:
                depth = min(costs.window, sequence.known - tokens / 2)
                spent[sequence is long] += tokens * (costs.token_s + costs.token_depth_s * depth)
    assert long.known > before
    assert spent[True] >= 0.8 * OLDEST_SHARE * (spent[True] + spent[False])


def test_steps_beside_one_deep_row_and_four_shallow_ones_are_measured_by_those_of_all_five() -> None:
    simulation = decoding("cpu", 1, LONG)
    until_first_token(simulation, *(simulation.submit(SHORT) for _ in range(4)))
    simulation.steps.clear()
    until_first_token(simulation, simulation.submit(2048))
    assert percentile(gaps(simulation), 99) <= 3.0
    assert percentile(gaps(simulation), 50) >= 2.0


def test_when_a_deep_row_leaves_the_others_are_not_kept_waiting_as_if_it_were_there() -> None:
    simulation = decoding("cpu", 5)
    deep = simulation.submit(LONG, 300)
    until_first_token(simulation, deep, simulation.submit(SHORT))
    long = simulation.submit(LONG)
    while deep.id in simulation.running:
        simulation.step()
    simulation.steps.clear()
    while long.known < LONG - 1 and len(simulation.steps) < 300:
        simulation.step()
    assert max(gaps(simulation)) <= 3.2
