"""Steps that fail: by a bug, or because the device has no memory left."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from mlx_sidecar.engine.admission import Admission
from mlx_sidecar.engine.core.memory_ledger import CACHE, SEQUENCES, WEIGHTS
from mlx_sidecar.engine.core.oom_backoff import LASTS_S
from mlx_sidecar.engine.fake.fake_script import Script
from mlx_sidecar.engine.resident_models import LoadStep
from mlx_sidecar.engine.scheduling.scheduler import Limits
from mlx_sidecar.link.control_messages import Load
from mlx_sidecar.link.messages import (
    Cancel,
    Dropped,
    Evicted,
    Finished,
    Generate,
    Pause,
    Priority,
    Refused,
    Resume,
    Sampling,
    Submit,
    Tokens,
)
from tests.engine.inline import Inline

WIDE = "fake?tokens=1000&memory_bytes=1000&token_bytes=10"  # 2560 bytes a sequence
THREE = WIDE + "&memory_rows=3"
LIMIT_BYTES = 10_000_000


@pytest.fixture
def inline() -> Iterator[Inline]:
    inline = Inline(LIMIT_BYTES)
    yield inline
    inline.close()


def answer(model: str, tokens: int, length: int) -> list[int]:
    made = Script.of(model).answer([1] * tokens, seed=0)
    return [next(made) for _ in range(length)]


def start(inline: Inline, model: str, *seqs: int, max_tokens: int = 100) -> None:
    """Let sequences run until each has a token."""
    for seq in seqs:
        inline.submit(seq, model, max_tokens=max_tokens)
    while not all(inline.tokens(seq) for seq in seqs):
        inline.turn()


# By a bug.


def test_a_failing_step_drops_who_held_a_cache_names_who_ran_and_spares_who_waits() -> None:
    inline = Inline(LIMIT_BYTES, Limits(running=3))
    inline.load(WIDE)
    start(inline, WIDE, 1, 2, 3)
    inline.send(Pause(3))
    inline.submit(4, WIDE)
    inline.submit(5, WIDE)
    inline.turn()
    inline.fail(WIDE)
    inline.settle()
    [dropped] = [message for message in inline.seen if isinstance(message, Dropped)]
    assert (sorted(dropped.seqs), sorted(dropped.running)) == ([1, 2, 3, 4], [1, 2, 4])
    assert dropped.fault.kind == "internal_error"
    assert inline.finished(5).reason == "length"
    stats = inline.stats()
    assert (stats.counters["dropped"], stats.counters["errors"]) == (4, 0)
    assert [stats.gauges[name] for name in ("running", "waiting", "parked", "reserved_bytes")] == [0] * 4
    inline.close()


def test_a_failure_of_one_model_is_none_of_another(inline: Inline) -> None:
    other = "fake?tokens=50"
    inline.load(WIDE, other)
    start(inline, WIDE, 1)
    inline.submit(2, other, max_tokens=50)
    inline.fail(WIDE)
    inline.settle()
    assert inline.tokens(2) == answer(other, 1, 50)


def test_a_dropped_sequence_that_comes_again_goes_on_where_it_was(inline: Inline) -> None:
    model = "fake?tokens=40&raise_after=3"
    inline.load(model)
    inline.submit(1, model, max_tokens=40)
    inline.settle()
    told = inline.tokens(1)
    assert len(told) == 3
    inline.send(Submit(1, model, [1, *told], Generate(Sampling(), [], 40, emitted=3), again=True))
    inline.settle()
    assert inline.tokens(1) == answer(model, 1, 40)


def test_one_that_comes_again_finds_no_queue_too_long() -> None:
    inline = Inline(LIMIT_BYTES, Limits(waiting=1, running=1))
    model = "fake?delay_ms=3600000"
    inline.load(model)
    for seq in (1, 2, 3):
        inline.send(Submit(seq, model, [1], Generate(Sampling(), [], 8)))
        inline.settle()
    inline.send(Submit(4, model, [1], Generate(Sampling(), [], 8), again=True))
    inline.settle()
    fault = inline.finished(3).fault
    assert fault is not None
    assert fault.kind == "overloaded"
    assert inline.stats().gauges["waiting"] == 2
    inline.close()


def test_a_bug_that_a_request_brings_out_as_it_is_taken_in_ends_that_request_alone(
    inline: Inline, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    inline.load(WIDE)
    inline.submit(1, WIDE, max_tokens=20)
    inline.turn()
    with monkeypatch.context() as patch:
        patch.setattr(Admission, "check", lambda *_: 1 / 0)
        inline.submit(2, WIDE)
        inline.turn()
    inline.settle()
    end = inline.finished(2)
    assert end.fault is not None
    assert (end.reason, end.started, end.fault.kind) == ("error", False, "internal_error")
    assert "ZeroDivisionError" in caplog.text
    assert inline.finished(1).reason == "length"
    assert inline.stats().gauges["waiting"] == 0


# For want of memory.


def test_more_sequences_than_the_device_has_memory_for_all_end_with_their_tokens(inline: Inline) -> None:
    inline.load(THREE)
    for seq in range(1, 9):
        inline.submit(seq, THREE, max_tokens=100)
    inline.settle()
    assert all(inline.tokens(seq) == answer(THREE, 1, 100) for seq in range(1, 9))
    assert not any(isinstance(message, Dropped) for message in inline.seen)
    stats = inline.stats()
    assert 1 <= stats.counters["allocation_failures"] <= 5
    assert stats.counters["parked_for_memory"] >= 8
    assert stats.counters["waits_for_memory"] >= 1
    assert stats.counters["refused_for_memory"] == 0
    assert stats.gauges["ceiling_bytes"] < 1000 + 4 * 2560


def test_the_ceiling_is_lifted_by_itself(inline: Inline) -> None:
    inline.load(THREE)
    start(inline, THREE, 1, 2, 3)
    inline.submit(4, THREE)
    inline.settle()
    failures = inline.stats().counters["allocation_failures"]
    assert "ceiling_bytes" in inline.stats().gauges
    inline.now += LASTS_S
    inline.settle()
    assert "ceiling_bytes" not in inline.stats().gauges
    for seq in (5, 6, 7, 8):
        inline.submit(seq, THREE)
    inline.settle()
    assert inline.stats().counters["allocation_failures"] > failures, "all of them were tried together again"
    assert {inline.finished(seq).reason for seq in range(1, 9)} == {"length"}


def test_the_only_one_that_holds_memory_ends_with_both_numbers(inline: Inline) -> None:
    inline.load(WIDE)
    start(inline, WIDE, 1)
    inline.fail(WIDE, 12345)
    inline.settle()
    end = inline.finished(1)
    assert end.fault is not None
    assert (end.reason, end.fault.kind) == ("error", "out_of_memory")
    assert end.fault.details == {"need_bytes": 12345, "have_bytes": 0}
    stats = inline.stats()
    assert stats.counters["refused_for_memory"] == 1
    assert "ceiling_bytes" not in stats.gauges, "it was nobody else's fault"


def test_the_only_one_is_tried_again_while_anything_can_still_be_freed(inline: Inline) -> None:
    idle = "fake?memory_bytes=5000"
    inline.load(idle, WIDE)
    start(inline, WIDE, 1)
    inline.backend.batches[WIDE].reclaimable_bytes = 50
    inline.fail(WIDE, 4000)  # the kept memory goes
    inline.turn()
    assert not any(isinstance(message, Evicted) for message in inline.seen)
    while len(inline.tokens(1)) < 20:
        inline.turn()
    inline.fail(WIDE, 4000)  # the idle model goes
    inline.settle()
    assert Evicted(idle) in inline.seen
    assert inline.tokens(1) == answer(WIDE, 1, 100)


def test_under_a_ceiling_one_may_still_run_alone_whatever_the_device_wanted(inline: Inline) -> None:
    inline.load(WIDE)
    start(inline, WIDE, 1, 2)
    inline.fail(WIDE, 10**12)
    inline.settle()
    assert inline.stats().gauges["ceiling_bytes"] == 0
    assert [inline.tokens(seq) for seq in (1, 2)] == [answer(WIDE, 1, 100)] * 2


def test_a_paused_sequence_loses_its_cache_and_nothing_else(inline: Inline) -> None:
    inline.load(WIDE)
    start(inline, WIDE, 1, 2)
    inline.send(Pause(2))
    inline.turn()
    inline.fail(WIDE, 100)
    inline.settle()
    assert inline.stats().gauges["parked"] == 0
    inline.send(Resume(2))
    inline.settle()
    assert [inline.tokens(seq) for seq in (1, 2)] == [answer(WIDE, 1, 100)] * 2


def test_a_load_that_finds_no_memory_says_so(inline: Inline, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(_: Load) -> Iterator[object]:
        yield LoadStep("reading", 1, 2)
        raise RuntimeError("[malloc] Unable to allocate 4321 bytes.")

    monkeypatch.setattr(inline.backend, "load", load)
    inline.send(Load(1, WIDE, ""))
    inline.settle()
    refused = inline.seen[-1]
    assert isinstance(refused, Refused)
    assert refused.fault.kind == "out_of_memory"
    assert refused.fault.details == {"need_bytes": 4321, "have_bytes": 4320}
    assert inline.stats().counters["allocation_failures"] == 1


# Anything, in any order.

MODELS = ["fake?tokens=1000&memory_bytes=100", THREE, WIDE + "&raise_after=3"]
priorities: st.SearchStrategy[Priority] = st.sampled_from(["critical", "high", "normal", "low"])


class Failures(RuleBasedStateMachine):
    """Requests, cancels, pauses and failures of both kinds; dropped sequences come again, as from the front."""

    def __init__(self) -> None:
        super().__init__()
        self.inline = Inline(15_000, Limits(waiting=40, running=5))
        self.inline.load(*MODELS)
        self.asked: dict[int, tuple[str, int]] = {}  # model and length of the answer, by sequence
        self.submitted: list[int] = []
        self.looked = 0

    @rule(model=st.sampled_from(MODELS), length=st.integers(1, 300), priority=priorities)
    def submit(self, model: str, length: int, priority: Priority) -> None:
        seq = len(self.asked) + 1
        self.asked[seq] = model, length
        self.submitted.append(seq)
        self.inline.send(Submit(seq, model, [1], Generate(Sampling(), [], length), priority=priority))

    @precondition(lambda self: self.asked)
    @rule(data=st.data(), kind=st.sampled_from([Cancel, Pause, Resume]))
    def steer(self, data: st.DataObject, kind: type[Cancel] | type[Pause] | type[Resume]) -> None:
        self.inline.send(kind(data.draw(st.sampled_from(sorted(self.asked)))))

    @rule(model=st.sampled_from(MODELS), need_bytes=st.none() | st.integers(0, 20_000))
    def fail(self, model: str, need_bytes: int | None) -> None:
        self.inline.fail(model, need_bytes)

    @rule(turns=st.integers(1, 40))
    def turn(self, turns: int) -> None:
        for _ in range(turns):
            self.inline.turn()
        self.come_again()

    @rule()
    def pass_time(self) -> None:
        self.inline.now += LASTS_S

    @rule()
    def bring_back_what_was_evicted(self) -> None:
        for model in MODELS:
            self.inline.send(Load(10**6 + len(self.inline.seen), model, ""))

    def come_again(self) -> None:
        """Ask again for dropped sequences, from where they were."""
        new, self.looked = self.inline.seen[self.looked :], len(self.inline.seen)
        for seq in [seq for message in new if isinstance(message, Dropped) for seq in message.seqs]:
            model, length = self.asked[seq]
            told = self.inline.tokens(seq)
            self.submitted.append(seq)
            again = Submit(seq, model, [1, *told], Generate(Sampling(), [], length, emitted=len(told)), again=True)
            self.inline.send(again)

    @invariant()
    def the_page_is_at_rest_between_turns(self) -> None:
        page = self.inline.page.read()
        assert (page.operating, page.ids) == (False, ())

    @invariant()
    def the_ledger_is_a_sum_over_all_that_hold_memory(self) -> None:
        stats = self.inline.engine.requests.stats
        loaded = dict(stats.models.loaded())
        weights_bytes = sum(each.card.memory_bytes for each in loaded.values())
        loading = stats.models.loading
        assert stats.ledger.bytes_of(WEIGHTS) == weights_bytes + (loading.estimated_bytes if loading else 0)
        holders = [holder for model in loaded for holder in stats.scheduler.holders_of(model)]
        assert stats.ledger.bytes_of(SEQUENCES) == sum(holder.need_bytes for holder in holders)
        assert stats.ledger.bytes_of(CACHE) == sum(each.batch.reclaimable_bytes for each in loaded.values())

    def teardown(self) -> None:
        try:
            self.end()
        finally:
            self.inline.close()

    def end(self) -> None:
        for batch in self.inline.backend.batches.values():
            batch.next_failure = None
        self.inline.send(*map(Resume, self.asked))
        while True:
            self.inline.settle()
            before = len(self.submitted)
            self.come_again()
            if len(self.submitted) == before:
                break
        ends = [message.seq for message in self.inline.seen if isinstance(message, Finished)]
        ends += [seq for message in self.inline.seen if isinstance(message, Dropped) for seq in message.seqs]
        assert sorted(ends) == sorted(self.submitted), "each is finished or dropped, once"
        for seq, (model, length) in self.asked.items():
            end, told = self.inline.finished(seq), self.inline.tokens(seq)
            assert told == answer(model, 1, len(told))
            assert end.reason in ("length", "cancelled", "error")
            assert end.reason != "length" or len(told) == length
            assert end.fault is None or end.fault.kind in ("out_of_memory", "overloaded", "model_not_loaded")
            last = max((i for i, m in enumerate(self.inline.seen) if isinstance(m, Tokens) and m.seq == seq), default=0)
            assert last <= self.inline.seen.index(end)
        gauges = self.inline.stats().gauges
        assert [gauges[name] for name in ("running", "waiting", "parked", "reserved_bytes")] == [0] * 4


TestFailures = Failures.TestCase
TestFailures.settings = settings(deadline=None, stateful_step_count=40)
