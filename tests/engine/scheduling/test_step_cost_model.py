"""The cost model and the planner give steps the right prefill, and the queue gives lanes fair turns: numbers alone."""

from __future__ import annotations

from itertools import pairwise
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlx_sidecar.engine.scheduling.depth_cost import TRIALS, DepthCost
from mlx_sidecar.engine.scheduling.fair_queue import FairQueue
from mlx_sidecar.engine.scheduling.priority_queue import AGEING_S, PriorityQueue, QueueEntry
from mlx_sidecar.engine.scheduling.step_cost_model import (
    CHUNK,
    GAP,
    LEAST_ALONE,
    LEAST_CHUNK,
    LONGEST_OPERATION_S,
    REMEASURE_STEPS,
    SURPRISE,
    Budget,
    StepCostModel,
    StepLoad,
)
from mlx_sidecar.engine.scheduling.step_planner import OLDEST_SHARE, PrefillChunks
from mlx_sidecar.link.messages import Priority
from tests.support.sequences import sequence_of

PRIORITIES: list[Priority] = ["critical", "high", "normal", "low"]
seconds = st.floats(1e-4, 1.0)


def queued(
    id_: int, tokens: int = 1, priority: Priority = "normal", arrived_s: float = 0.0, deadline_s: float = inf
) -> QueueEntry:
    sequence = sequence_of(id_, [1] * tokens, 10, arrived_s=arrived_s, priority=priority, deadline_s=deadline_s)
    return QueueEntry(sequence, arrived_s, runs_as=2)


def of_tokens(tokens: int, token_s: float = 1e-3) -> Budget:
    """Return a budget for ``tokens``, whatever their depth."""
    cost = DepthCost(1000, 0.0, token_s, seen=TRIALS)
    return Budget(cost, (tokens + 1e-6) * token_s)


class Device:
    """A step costs something, each row that decodes, and each token of prefill. Depth costs nothing."""

    def __init__(self, step_s: float, row_s: float, token_s: float) -> None:
        self.step_s, self.row_s, self.token_s = step_s, row_s, token_s

    def takes(self, rows: int, tokens: int) -> float:
        return self.step_s + self.row_s * rows + self.token_s * tokens

    def run(self, pace: StepCostModel, rows: int, slower: float = 1.0) -> tuple[int, float]:
        """One step with as much prefill as ``pace`` allows: its tokens and its seconds."""
        tokens = allowed(pace, rows)
        took_s = self.takes(rows, tokens)
        pace.learn(StepLoad(rows, 0, tokens), took_s * slower)
        return tokens, took_s


def allowed(pace: StepCostModel, rows: int, sharing: int = 1, depth: int = 0) -> int:
    """Return the tokens of a long prompt that ``pace`` allows beside ``rows``."""
    budget = pace.budget(rows, 0, pace.decode_s(rows, 0) if rows else None, sharing)
    return budget.fit(1 << 20, depth) if budget else 0


@given(seconds, st.floats(0, 0.1), st.floats(1e-6, 0.01), st.lists(st.integers(1, 32), min_size=1, max_size=80))
def test_a_step_beside_decoding_rows_stays_within_the_gap_however_their_number_changes(
    step_s: float, row_s: float, token_s: float, rows: list[int]
) -> None:
    device, pace = Device(step_s, row_s, token_s), StepCostModel()
    pace.learn(StepLoad(0, 0, LEAST_ALONE), device.takes(0, LEAST_ALONE))
    for count in rows:
        tokens, took_s = device.run(pace, count)
        assert tokens <= 1 or took_s <= 1.01 * GAP * device.takes(count, 0)


@given(
    st.lists(st.tuples(st.integers(0, 32), st.integers(0, 1 << 15), st.floats(1e-6, 100)), min_size=1, max_size=200),
    st.integers(1, 4),
)
def test_a_prefill_always_progresses_and_never_by_more_than_a_chunk(
    steps: list[tuple[int, int, float]], sharing: int
) -> None:
    pace = StepCostModel()
    for rows, depth, took_s in steps:
        for _ in range(2 * TRIALS):  # as many steps at least measure
            budget = pace.budget(rows, rows * depth, pace.decode_s(rows, rows * depth) if rows else None, sharing)
            tokens = budget.fit(1 << 20, depth) if budget else 0
            assert tokens <= CHUNK
            assert rows or tokens
            pace.learn(StepLoad(rows, rows * depth, tokens, depth), took_s)
            if tokens:
                break
        else:
            pytest.fail("a step that takes as long as the last is measured again and again")


@given(st.lists(st.tuples(st.integers(0, 32), st.floats(1e-6, 100)), min_size=1, max_size=200))
def test_few_steps_only_measure(steps: list[tuple[int, float]]) -> None:
    pace, barren, sizes = StepCostModel(), 0, set()
    for rows, took_s in steps:
        tokens = allowed(pace, rows)
        barren += not tokens
        sizes.add((rows - 1).bit_length())
        pace.learn(StepLoad(rows, 0, tokens), took_s)
    assert barren <= 2 * TRIALS * len(sizes) + 2 * len(steps) / REMEASURE_STEPS


def test_before_anything_is_measured_a_small_chunk_tells_how_fast_it_goes() -> None:
    pace = StepCostModel()
    assert allowed(pace, 0) == LEAST_ALONE
    for _ in range(20):
        pace.learn(StepLoad(0, 0, LEAST_ALONE, 32), LEAST_ALONE * 0.001)
    assert allowed(pace, 0) == pytest.approx(LONGEST_OPERATION_S / 0.001, rel=0.2)


def test_where_nobody_decodes_on_this_model_the_streams_of_another_still_count() -> None:
    pace = StepCostModel()
    pace.learn(StepLoad(0, 0, 100), 0.1)
    for sharing in (1, 3):
        budget = pace.budget(0, 0, 0.05, sharing)
        assert budget is not None
        assert budget.seconds == pytest.approx((GAP - 1) * 0.05 / sharing)


@given(seconds, st.floats(1e-6, 1e-3), st.floats(2, 1e4), st.integers(0, 10), st.integers(0, 8))
def test_a_slow_outlier_is_forgotten_within_a_few_steps(
    step_s: float, token_s: float, slower: float, before: int, rows: int
) -> None:
    device, pace, calm = Device(step_s, 0.0, token_s), StepCostModel(), StepCostModel()
    for known in (pace, calm):
        for _ in range(TRIALS):
            known.learn(StepLoad(1), device.takes(1, 0))
    for at in range(before + 1 + TRIALS + 16):
        device.run(pace, rows, slower if at == before else 1.0)
        device.run(calm, rows)
    expected, tokens = allowed(calm, rows), allowed(pace, rows)
    assert expected / 1.3 - 1 <= tokens <= expected * 1.3 + 1


def test_a_decode_step_that_surprises_is_measured_again_and_the_shorter_of_the_two_counts() -> None:
    pace = StepCostModel()
    for _ in range(10):
        pace.learn(StepLoad(4), 0.01)
    pace.learn(StepLoad(4), 0.01 * SURPRISE * 2)
    assert pace.decode_s(4, 0) == pytest.approx(0.01)
    pace.learn(StepLoad(4), 0.01)
    assert pace.decode_s(4, 0) == pytest.approx(0.01)
    for _ in range(60):
        pace.learn(StepLoad(4), 0.01 * SURPRISE * 2)
    assert pace.decode_s(4, 0) == pytest.approx(0.01 * SURPRISE * 2, rel=0.05)


def test_decoding_beside_endless_prefill_is_measured_again_as_it_gets_slower() -> None:
    device, pace = Device(0.01, 0.0, 0.0001), StepCostModel()
    for _ in range(10):
        device.run(pace, 4)
    device.step_s = 0.02  # another process has come
    for _ in range(20 * REMEASURE_STEPS):
        device.run(pace, 4)
    assert pace.decode_s(4, 0) == pytest.approx(0.02, rel=0.05)


def test_rows_that_have_become_much_deeper_are_measured_before_anything_is_prefilled_beside_them() -> None:
    pace = StepCostModel()
    pace.learn(StepLoad(0, 0, LEAST_ALONE), 0.05)
    for _ in range(10):
        pace.learn(StepLoad(6, 600), 0.01)
    assert pace.budget(6, 700, 0.01, 1) is not None
    assert pace.budget(6, 16_000, 0.01, 1) is None, "one of them is a long chat now"
    for _ in range(TRIALS):
        pace.learn(StepLoad(6, 16_000), 0.02)
    for depth, step_s in ((16_000, 0.02), (600, 0.01)):
        assert pace.budget(6, depth, 0.01, 1) is not None, "both are known from here on"
        assert pace.decode_s(6, depth) == pytest.approx(step_s, rel=0.1)


prompts = st.lists(
    st.tuples(st.sampled_from(PRIORITIES), st.integers(2, 3000), st.floats(0, 9)), min_size=1, max_size=40
).map(lambda drawn: [queued(at + 1, size, priority, arrived) for at, (priority, size, arrived) in enumerate(drawn)])


@given(prompts, st.integers(LEAST_CHUNK, CHUNK))
def test_a_step_prefills_what_it_may_in_pieces_worth_the_step(entries: list[QueueEntry], budget: int) -> None:
    work = PrefillChunks().split(entries, of_tokens(budget), 10.0)
    assert sum(count for _, count, _ in work) <= budget
    for sequence, count, _ in work:
        assert min(LEAST_CHUNK, sequence.pending) <= count <= sequence.pending
    assert len({part.sequence.id for part in work}) == len(work)
    unserved = len(entries) - len(work)
    if unserved:
        assert sum(count for _, count, _ in work) > budget - LEAST_CHUNK, "nothing is left over that somebody could use"


@given(prompts, st.floats(0, 1e-3))
def test_a_step_prefills_something_however_little_it_may(entries: list[QueueEntry], seconds: float) -> None:
    work = PrefillChunks().split(entries, Budget(DepthCost(1000, 0.0, 1e-3, seen=TRIALS), seconds), 10.0)
    assert [part.tokens for part in work] == [1]


@given(st.integers(LEAST_CHUNK, CHUNK), st.integers(1, 60), st.sampled_from(PRIORITIES))
def test_the_prompt_that_waits_longest_gets_its_share_under_a_stream_of_shorter_ones(
    budget: int, steps: int, priority: Priority
) -> None:
    chunks, long, total, cost = PrefillChunks(), queued(1, 100_000, "low"), 0, of_tokens(budget).cost
    for step in range(steps):
        short = queued(2 + step, budget, priority, arrived_s=1.0 + step)
        work = chunks.split([long, short], of_tokens(budget), 1000.0)
        for sequence, count, _ in work:
            sequence.known += count
        chunks.account(work, cost)
        total += sum(count for _, count, _ in work)
    assert long.sequence.known >= OLDEST_SHARE * total - (1 + OLDEST_SHARE) * budget - 1


def test_a_short_prompt_does_not_wait_for_a_long_one_nor_an_urgent_one_for_either() -> None:
    long, short, urgent = queued(1, 16_000), queued(2, 40), queued(3, 2000, "high")
    urgent.runs_as = 1
    split = [part[:2] for part in PrefillChunks().split([long, short], of_tokens(64), 0.0)]
    assert split == [(short.sequence, 40), (long.sequence, 24)]
    split = [part[:2] for part in PrefillChunks().split([long, short, urgent], of_tokens(400), 0.0)]
    assert split == [(urgent.sequence, 400)]


@given(st.lists(st.tuples(st.integers(0, 3), seconds), max_size=200))
def test_lanes_that_stay_due_have_had_equal_time_but_for_one_operation(operations: list[tuple[int, float]]) -> None:
    turns, had, longest = FairQueue(), dict.fromkeys("abcd", 0.0), 0.0
    for _, took_s in operations:
        lane = turns.next(had)
        assert lane is not None
        turns.charge(lane, took_s)
        had[lane] += took_s
        longest = max(longest, took_s)
        assert max(had.values()) - min(had.values()) <= longest + 1e-9


@given(st.lists(st.tuples(st.booleans(), seconds), min_size=1, max_size=100))
def test_a_lane_that_comes_and_goes_takes_nothing_from_one_that_stays(steps: list[tuple[bool, float]]) -> None:
    turns, had, longest = FairQueue(), {"stays": 0.0, "comes": 0.0}, 0.0
    for comes, took_s in steps:
        lane = turns.next(["comes", "stays"] if comes else ["stays"])
        assert lane is not None
        turns.charge(lane, took_s)
        had[lane] += took_s
        longest = max(longest, took_s)
        assert had["comes"] <= had["stays"] + 2 * longest + 1e-9


def test_a_lane_that_was_idle_is_owed_nothing() -> None:
    turns, served = FairQueue(), []
    for due in [["busy"]] * 10 + [["busy", "idle"]] * 10:
        served.append(turns.next(due))
        turns.charge(served[-1], 1.0)
    assert served.count("idle") in (5, 6)


arrivals = st.lists(st.tuples(st.floats(0, 100), st.booleans()), min_size=1, max_size=30)


@given(arrivals, st.data())
def test_a_line_stands_by_arrival_and_is_as_old_as_who_has_waited_longest(
    drawn: list[tuple[float, bool]], data: st.DataObject
) -> None:
    lines, inside = PriorityQueue(), []
    for id_, (arrived_s, returns) in enumerate(drawn):
        entry = queued(id_, arrived_s=arrived_s)
        since_s = entry.waits_since_s = arrived_s + (data.draw(st.floats(0, 50)) if returns else 0.0)
        lines.join(entry)
        inside.append((entry, since_s))
        if data.draw(st.booleans()):
            gone = inside.pop(data.draw(st.integers(0, len(inside) - 1)))
            lines.leave(gone[0])
        if inside:
            (head,) = lines.heads("m", 0.0)
            assert head is min((entry for entry, _ in inside), key=lambda entry: entry.order)
            assert head.waits_since_s <= min(since_s for _, since_s in inside)
            ages = [entry.waits_since_s for entry in sorted((e for e, _ in inside), key=lambda e: e.order)]
            assert all(first <= second for first, second in pairwise(ages))
    for entry, _ in inside:
        lines.leave(entry)
    assert lines.models() == []


def test_whoever_is_past_its_deadline_stands_in_nobodys_way() -> None:
    lines, late, next_ = PriorityQueue(), queued(1, deadline_s=5.0), queued(2, arrived_s=1.0)
    lines.join(late)
    lines.join(next_)
    assert [list(lines.heads("m", now)) for now in (4.0, 5.0)] == [[late], [next_]]


def test_a_class_is_made_good_by_waiting_for_a_period() -> None:
    entry = queued(1, priority="low")
    assert entry.urgency(AGEING_S) == 2.0
    entry.admit(3.5 * AGEING_S)
    assert entry.running_rank(3.5 * AGEING_S) == 0
    entry.sequence.times.last_token_s = 4 * AGEING_S
    assert entry.running_rank(4.4 * AGEING_S) == 0
    assert entry.running_rank(4.6 * AGEING_S) == 3, "it has settled: its class counts again"


def test_the_step_that_counts_is_the_one_with_those_who_are_about_to_join() -> None:
    device, pace = Device(0.03, 0.003, 0.003), StepCostModel()
    for _ in range(TRIALS + 1):
        pace.learn(StepLoad(8), device.takes(8, 0))
        pace.learn(StepLoad(8, 0, 16), device.takes(8, 16))
    assert pace.full_s(8, 0, 24) == pytest.approx(device.takes(32, 0), rel=0.01)
    assert pace.full_s(4, 0, 4) is None  # 4 rows were never measured
