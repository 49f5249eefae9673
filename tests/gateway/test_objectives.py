"""Objectives: which requests are late, how fast that uses up what is allowed, and what is done about it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlx_sidecar_gateway.core.keys import ANYBODY, PRIORITIES, Key
from mlx_sidecar_gateway.core.records import DISCONNECTED, Record
from mlx_sidecar_gateway.observability.burn_rate import ALARM, BUCKET_S, LEAST_REQUESTS, WINDOWS, Alarm, Windows
from mlx_sidecar_gateway.observability.objective_words import Objective, read_objectives
from mlx_sidecar_gateway.observability.objectives import Objectives, judged
from mlx_sidecar_gateway.surfaces.faults import Fault, Refused
from tests.gateway.in_memory import InMemory, in_memory

BODY = {"model": "fake?tokens=3", "messages": [{"role": "user", "content": "Hi"}]}
PATH = "/v1/chat/completions"


class Clock:
    """A clock that goes when it is told to."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def record(priority: str = "high", *, first_s: float | None = None, gap_s: float | None = None, **more: Any) -> Record:
    """A streamed answer that has ended after ten seconds."""
    members = {"outcome": "stop", "generates": True, "is_streamed": True, "status": 200, **more}
    made = Record("id", "POST", PATH, priority=priority, asked_priority=priority, **members)
    made.first_token_s, made.longest_gap_s, made.duration_s = first_s, gap_s, more.get("duration_s", 10.0)
    return made


# Words.


def test_an_objective_has_a_bound_for_each_measure_and_one_target() -> None:
    assert read_objectives(["high:first_token=0.5,gap=0.2,target=0.95,burn=10,action=lower-admission"]) == tuple(
        Objective(priority="high", measure=measure, bound_s=bound_s, target=0.95, burn=10, action="lower-admission")
        for measure, bound_s in (("first_token", 0.5), ("gap", 0.2))
    )
    assert read_objectives(["low:gap=3"]) == (Objective(priority="low", measure="gap", bound_s=3.0),)


@pytest.mark.parametrize(
    ("texts", "because"),
    [
        (["high"], "a priority is needed"),
        (["urgent:gap=1"], "a priority is needed"),
        (["high:"], "no such word"),
        (["high:target=0.9,burn=2"], "a bound is needed"),
        (["high:gap"], "'gap': no such word"),
        (["high:gaps=1"], "'gaps=1': no such word"),
        (["high:gap=1,gap=2"], "gap stands there twice"),
        (["high:gap=0"], "gap=0: a positive number"),
        (["high:gap=nan"], "gap=nan: a positive number"),
        (["high:gap=1,target=1"], "target=1: must be below 1"),
        (["high:gap=1,target=0.9"], "no rate is above 10"),
        (["high:gap=1,burn=100"], "no rate is above 100"),
        (["high:gap=1,action=pray"], "action=pray: must be lower-admission or raise-priority"),
        (["low:gap=1,action=lower-admission"], "no priority is below low"),
        (["critical:gap=1,action=raise-priority"], "no priority is above critical"),
        (["high:gap=1", "high:gap=2"], "there is an objective high:gap already"),
    ],
)
def test_a_word_that_does_not_fit_is_named(texts: list[str], because: str) -> None:
    with pytest.raises(ValueError, match=because) as refused:
        read_objectives(texts)
    assert str(refused.value).startswith(f"{texts[-1]}: ")


_NUMBERS = st.sampled_from(["0.5", "1", "0.999999", "1e-9", "1e300", "-1", "nan", "", "inf", "14.4", "x"])


@given(st.lists(st.tuples(st.sampled_from(["gap", "first_token", "target", "burn", "action", ""]), _NUMBERS)))
def test_whatever_is_read_can_burn(words: list[tuple[str, str]]) -> None:
    text = f"high:{','.join(f'{name}={value}' for name, value in words)}"
    try:
        objectives = read_objectives([text])
    except ValueError:
        return
    for objective in objectives:
        assert objective.bound_s > 0
        assert 0 < objective.target < 1
        assert objective.burn * (1 - objective.target) < 1


# Judgements.

FIRST = Objective(priority="high", measure="first_token", bound_s=1.0)
GAP = Objective(priority="high", measure="gap", bound_s=1.0)


@pytest.mark.parametrize(
    ("members", "first", "gap"),
    [
        ({"first_s": 0.5, "gap_s": 0.5}, True, True),
        ({"first_s": 1.5, "gap_s": 0.5}, False, True),
        ({"first_s": 0.5, "gap_s": 1.5}, True, False),
        ({"first_s": 0.5}, True, None),  # one part has no gap
        ({"first_s": 0.5, "is_streamed": False, "outcome": "engine_lost", "fault_status": 503}, True, None),
        ({"outcome": "overloaded", "fault_status": 503}, False, None),
        ({"outcome": "invalid_params", "fault_status": 400}, None, None),
        ({"outcome": "rate_limited", "fault_status": 429}, None, None),
        ({"first_s": 0.5, "gap_s": 0.5, "outcome": "engine_lost", "fault_status": 503}, True, False),
        ({"first_s": 0.5, "gap_s": 0.5, "outcome": "tool_call_error", "fault_status": 502}, True, True),
        ({"outcome": DISCONNECTED, "duration_s": 0.5}, None, None),
        ({"outcome": DISCONNECTED, "duration_s": 1.5}, False, None),
        ({"outcome": "deadline_passed", "fault_status": 504, "duration_s": 0.5}, None, None),
        ({"first_s": 0.2, "outcome": DISCONNECTED, "duration_s": 0.5}, True, None),
        ({"first_s": 0.2, "outcome": DISCONNECTED, "duration_s": 1.5}, True, False),
        ({"first_s": 0.2, "gap_s": 0.1, "outcome": DISCONNECTED, "duration_s": 0.5}, True, True),
    ],
)
def test_a_request_is_judged_by_what_its_client_waited_for(
    members: dict[str, Any], first: bool | None, gap: bool | None
) -> None:
    assert (judged(record(**members), FIRST), judged(record(**members), GAP)) == (first, gap)


# Burn rates.


@settings(max_examples=60)
@given(st.lists(st.tuples(st.floats(0, 900), st.booleans()), max_size=60), st.floats(0, 5000))
def test_windows_count_the_requests_of_their_buckets_and_keep_no_others(
    steps: list[tuple[float, bool]], later_s: float
) -> None:
    windows, now_s, events = Windows(), 50.0, list[tuple[float, bool]]()
    for gap_s, is_good in steps:
        now_s += gap_s
        windows.add(now_s, is_good=is_good)
        events.append((now_s, is_good))
    now_s += later_s
    windows.advance(now_s)
    for name, length in WINDOWS.items():
        first = now_s // BUCKET_S - length + 1
        inside = [is_good for at_s, is_good in events if at_s // BUCKET_S >= first]
        count = windows.counts[name]
        assert (count.good, count.bad) == (inside.count(True), inside.count(False))
        assert len(windows._buckets[name]) <= length


@settings(max_examples=60)
@given(st.lists(st.tuples(st.floats(0, 400), st.integers(0, 100)), min_size=1, max_size=40), st.floats(0.5, 0.999))
def test_an_alarm_begins_over_both_rates_and_ends_below_half_of_the_short_one(
    steps: list[tuple[float, int]], target: float
) -> None:
    """Each step waits, and then has a hundred requests, of which so many are bad."""
    threshold = min(ALARM, 0.9 / (1 - target))
    alarm, now_s = Alarm(threshold, 1 - target), 0.0
    for wait_s, bad in steps:
        now_s += wait_s
        for number in range(100):
            alarm.windows.add(now_s, is_good=number >= bad)
        before, is_on = alarm.is_on, alarm.at(now_s)
        short, long = (count.burn_rate(1 - target) for count in alarm.windows.counts.values())
        if is_on and not before:
            assert min(short, long) > threshold
        if before and not is_on:
            assert short < threshold / 2
        if min(short, long) > threshold:
            assert is_on


def test_a_few_requests_are_no_alarm() -> None:
    alarm = Alarm(ALARM, 0.01)
    for _ in range(LEAST_REQUESTS - 1):
        alarm.windows.add(0.0, is_good=False)
    assert not alarm.at(0.0)
    alarm.windows.add(0.0, is_good=False)
    assert alarm.at(0.0)


# Actions.


def burning(clock: Clock, *texts: str, priority: str = "high") -> Objectives:
    objectives = Objectives(read_objectives(texts), clock)
    for _ in range(20):
        objectives.hear(record(priority, first_s=9.0))
    return objectives


def test_lower_priorities_wait_while_an_objective_burns_and_not_when_it_has_recovered() -> None:
    clock = Clock()
    objectives = burning(clock, "high:first_token=1,action=lower-admission")
    waits = []
    for _ in range(3):
        for priority in ("low", "normal"):
            with pytest.raises(Refused) as refused:
                objectives.admitted(priority, ANYBODY)
            assert (refused.value.fault.status, refused.value.fault.kind) == (503, "overloaded")
            waits.append(refused.value.fault.retry_after_s)
    assert len(set(waits)) == 6
    assert all(wait_s is not None and 15 <= wait_s < 45 for wait_s in waits)
    assert [objectives.admitted(priority, ANYBODY) for priority in ("high", "critical")] == ["high", "critical"]
    clock.now_s += 200
    for _ in range(220):  # 20 of 240 are bad: a rate of 8.3, below the alarm, but not below its half
        objectives.hear(record(first_s=0.5))
    with pytest.raises(Refused):
        objectives.admitted("low", ANYBODY)
    for _ in range(60):
        objectives.hear(record(first_s=0.5))
    assert objectives.admitted("low", ANYBODY) == "low"
    [told] = objectives.told()
    assert (told["burns"], told["alarms"], told["refused"], told["raised"]) == (False, 1, 7, 0)


def test_without_requests_an_alarm_ends_with_the_short_window() -> None:
    clock = Clock()
    objectives = burning(clock, "high:first_token=1,action=lower-admission")
    with pytest.raises(Refused):
        objectives.admitted("low", ANYBODY)
    clock.now_s += 300
    assert objectives.admitted("low", ANYBODY) == "low"


def test_requests_of_a_burning_objective_run_one_level_higher_but_never_above_their_key() -> None:
    objectives = burning(Clock(), "normal:first_token=1,action=raise-priority", priority="normal")
    assert [objectives.admitted(priority, ANYBODY) for priority in PRIORITIES] == ["low", "high", "high", "critical"]
    assert objectives.admitted("normal", Key(name="ann", highest_priority="normal")) == "normal"
    assert objectives.told()[0]["raised"] == 1


def test_without_an_action_a_burning_objective_changes_nothing() -> None:
    objectives = burning(Clock(), "high:first_token=1")
    assert [objectives.admitted(priority, ANYBODY) for priority in PRIORITIES] == list(PRIORITIES)
    assert objectives.told()[0]["burns"]


def test_refused_and_raised_requests_are_counted_for_the_objective_they_asked_by() -> None:
    clock = Clock()
    objectives = Objectives(read_objectives(["normal:first_token=1"]), clock)
    refused = record("normal", outcome="overloaded", fault_status=503)
    refused.priority = ""  # it was not admitted
    raised = record("normal", first_s=0.5)
    raised.priority = "high"
    objectives.hear(refused)
    objectives.hear(raised)
    assert [(figure.window, figure.good, figure.bad) for figure in objectives.figures()] == [("5m", 1, 0), ("1h", 1, 0)]


def test_figures_tell_each_objective_in_each_window() -> None:
    clock = Clock()
    objectives = Objectives(read_objectives(["high:first_token=1,gap=1", "low:gap=1"]), clock)
    objectives.hear(record(first_s=0.5, gap_s=2.0))
    clock.now_s += 600
    objectives.hear(record(first_s=0.5, gap_s=0.5))
    assert [
        (f"{each.priority}:{each.objective}", each.window, round(each.burn_rate), each.good, each.bad)
        for each in objectives.figures()
    ] == [
        ("high:first_token", "5m", 0, 1, 0),
        ("high:first_token", "1h", 0, 2, 0),
        ("high:gap", "5m", 0, 1, 0),
        ("high:gap", "1h", 50, 1, 1),
        ("low:gap", "5m", 0, 0, 0),
        ("low:gap", "1h", 0, 0, 0),
    ]


# In a gateway.


@pytest.fixture(scope="module")
async def memory(anyio_backend: str) -> AsyncIterator[InMemory]:
    words = ("high:first_token=60,action=lower-admission", "normal:first_token=60,action=raise-priority")
    async with in_memory(objectives=read_objectives(words)) as made:
        yield made


@pytest.mark.anyio
async def test_the_gateway_refuses_or_raises_requests_and_tells_it(memory: InMemory) -> None:
    records: list[Record] = []
    memory.gateway.records.listeners.append(records.append)
    headers = [("x-mlx-sidecar-priority", "high")]
    assert (await memory.visit(PATH, BODY, headers=headers).run()).status == 200
    assert (await memory.visit(PATH, BODY).run()).status == 200
    assert [figure.good for figure in memory.gateway.objectives.figures() if figure.window == "5m"] == [1, 1]
    for _ in range(20):
        memory.gateway.objectives.hear(record("normal", outcome="engine_lost", fault_status=503))
    assert (await memory.visit(PATH, BODY).run()).status == 200
    assert (records[-1].asked_priority, records[-1].priority) == ("normal", "high")
    for _ in range(20):
        memory.gateway.objectives.hear(record("high", outcome="engine_lost", fault_status=503))
    for path, body in ((PATH, BODY), ("/v1/embeddings", {"model": "fake?dimensions=4", "input": "Hi"})):
        refused = await memory.visit(path, body).run()
        assert (refused.status, json.loads(refused.body)["error"]["code"]) == (503, "overloaded")
        assert 15 <= int(refused.headers["retry-after"]) < 45
        assert (records[-1].asked_priority, records[-1].priority) == ("normal", "")
    assert (await memory.visit("/v1/messages", {**BODY, "max_tokens": 3}).run()).status == 529
    assert (await memory.visit(PATH, BODY, headers=headers).run()).status == 200
    high, normal = memory.gateway.figures()["objectives"]
    assert (high["refused"], high["burns"], normal["raised"]) == (3, True, 1)


def test_a_fault_of_an_objective_names_it() -> None:
    objectives = burning(Clock(), "high:first_token=1,action=lower-admission")
    with pytest.raises(Refused) as refused:
        objectives.admitted("normal", ANYBODY)
    fault: Fault = refused.value.fault
    assert fault.details == {"objective": "high:first_token"}
    assert fault.retryable
