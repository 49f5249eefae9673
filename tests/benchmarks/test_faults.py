"""The short form of ``make faults``, and the parts that it is made of."""

from __future__ import annotations

import asyncio
import signal
import subprocess
from importlib import import_module
from typing import Any

import pytest

from benchmarks.faults import numerics as numerics_module
from benchmarks.faults import report
from benchmarks.faults.__main__ import tried
from benchmarks.faults.blows import replaced
from benchmarks.faults.host import Pings, State, Stuck, state_faults, within
from benchmarks.faults.report import Outcome, Report
from benchmarks.faults.traffic import Traffic, differing, left
from benchmarks.measure import Row
from benchmarks.promises import Promises, ending

Frame = dict[str, Any]


@pytest.mark.parametrize("part", ["kills", "recovery", "signals", "steps", "disk", "reader", "cost"])
def test_promises_are_kept_under_a_few_faults(part: str) -> None:
    found: Report = import_module(f"benchmarks.faults.{part}").run(seed=1, quick=True)
    assert found.broken == []
    assert found.rows or found.outcomes


def test_a_seed_gives_the_same_requests_again() -> None:
    first, again, other = Traffic(3, "m"), Traffic(3, "m"), Traffic(4, "m")
    assert [first[n] for n in range(40)] == [again[n] for n in reversed(range(40))][::-1]
    assert [first[n] for n in range(40)] != [other[n] for n in range(40)]


@pytest.mark.parametrize("is_exact", [True, False])
def test_texts_that_differ_are_a_fault_where_the_device_has_exact_numerics_alone(
    is_exact: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(numerics_module, "allows_exact", lambda: is_exact)
    assert numerics_module.numerics() == ("--numerics", "exact" if is_exact else "fast")
    assert len(numerics_module.other_texts([0, 2], Traffic(3, "m"))) == (2 if is_exact else 0)


def test_the_engine_itself_is_asked_whether_it_takes_exact_numerics() -> None:
    asked = subprocess.run(numerics_module.QUESTION, check=False).returncode
    assert asked in (0, numerics_module.REFUSED)
    assert numerics_module.allows_exact() is (asked == 0)


def test_traffic_is_of_every_kind_and_every_answer_can_be_given_again() -> None:
    traffic = Traffic(5, "m")
    requests = [traffic[n] for n in range(200)]
    for name in ("stream", "window", "stop", "logprobs", "logit_bias", "repetition_penalty"):
        assert 0 < sum(name in request for request in requests) < 200
    assert all("seed" in request for request in requests if request.get("temperature"))
    assert {request["model"] for request in requests} == {"m", "pocket"}


def answer(**more: Any) -> Frame:
    return {"id": 1, "result": {"text": "ab", "tokens": [1, 2], "finish_reason": "length", **more}}


@pytest.mark.parametrize("wrong", [{"text": "aX"}, {"tokens": [1, 3]}, {"finish_reason": "stop"}, {"stop_match": "b"}])
def test_an_answer_that_is_not_the_undisturbed_one_differs(wrong: Frame) -> None:
    assert differing({7: answer(**wrong), 8: answer()}, {7: answer(), 8: answer()}) == [7]


def test_an_answer_that_only_one_run_has_differs() -> None:
    assert differing({1: answer()}, {1: answer(), 2: answer()}) == [2]
    assert differing({1: {"id": 1, "error": {"code": -32006}}}, {1: answer()}) == [1]


def test_what_was_cut_short_is_not_compared() -> None:
    cut = answer(text="a", tokens=[1], finish_reason="deadline")
    refused = {"id": 1, "error": {"code": -32800}}
    assert differing({1: cut, 2: answer(), 3: refused}, {1: answer(), 2: cut, 3: answer()}) == []


def test_patience_is_counted_from_the_last_word() -> None:
    assert left(heard_s=10.0, now=25.0, patience_s=60.0) == 45.0
    assert left(heard_s=10.0, now=70.0, patience_s=60.0) == 0.0
    assert left(heard_s=69.0, now=70.0, patience_s=60.0) == 59.0


def test_what_does_not_happen_is_a_hang_and_not_waited_for() -> None:
    with pytest.raises(Stuck, match="no answer"):
        asyncio.run(within("answer", asyncio.Event().wait(), patience_s=0.01))


def states(*told: tuple[str, int]) -> list[State]:
    return [State(n, float(n), name, restarts, None, None) for n, (name, restarts) in enumerate(told)]


def test_a_loss_is_followed_by_a_start_and_counted() -> None:
    assert state_faults(states(("ready", 0), ("lost", 0), ("starting", 1), ("lost", 1), ("starting", 2))) == []
    assert state_faults(states(("ready", 0), ("lost", 0), ("ready", 0))) == ["engine/state ready after lost"]
    assert state_faults(states(("lost", 0), ("starting", 0))) == ["engine/state starting with restarts 0 after 0"]


def test_a_start_that_is_lost_itself_has_not_replaced_anything() -> None:
    told = states(("ready", 0), ("lost", 0), ("starting", 1), ("lost", 1), ("starting", 2), ("ready", 2))
    assert replaced(told) == [2.0]


def test_what_the_host_was_late_is_not_the_sidecars() -> None:
    pings = Pings()
    pings.sent(1, 10.0)
    assert pings.answered(1, 10.5)
    assert not pings.answered(1, 11.0)
    pings.woke(0.4)
    pings.sent(2, 11.0)
    assert pings.answered(2, 11.25)
    pings.woke(0.0)
    assert pings.took_s == [0.5, 0.25]
    assert pings.sidecars_s == pytest.approx([0.1, 0.25])


def interrupted_stream() -> Promises:
    promises = Promises()
    promises.asked(1, {"stream": "s"})
    promises.delta({"stream": "s", "seq": 0, "offset": 0, "text": "a", "tokens": [1]})
    promises.engine_lost()
    return promises


def test_a_stream_that_lost_its_engine_says_so_once_before_it_goes_on() -> None:
    promises = interrupted_stream()
    promises.interrupted({"stream": "s", "last_seq": 0})
    promises.engine_ready()
    promises.engine_lost()  # no delta of the second engine came
    promises.engine_ready()
    assert promises.broken == []
    assert promises.interruptions == 1


def test_text_that_was_held_back_is_not_of_the_next_engine() -> None:
    promises = interrupted_stream()
    promises.interrupted({"stream": "s", "last_seq": 0})
    promises.delta({"stream": "s", "seq": 1, "offset": 1, "text": "b", "tokens": [2]})
    promises.engine_lost()
    promises.engine_ready()
    assert promises.broken == []


def test_a_stream_that_says_nothing_of_a_lost_engine_breaks_its_promise() -> None:
    promises = interrupted_stream()
    promises.engine_ready()
    assert len(promises.broken) == 1
    assert promises.at_fault == {1}


def test_an_interruption_tells_the_last_delta() -> None:
    promises = interrupted_stream()
    promises.interrupted({"stream": "s", "last_seq": 3})
    assert len(promises.broken) == 1


def test_an_error_that_was_to_be_expected_breaks_nothing() -> None:
    promises = Promises()
    error = {"code": -32006, "data": {"kind": "poison_request"}}
    told = {"text": "", "tokens": [], "usage": {"completion_tokens": 0}, "finish_reason": "error", "error": error}
    for id_, frame in ((1, {"result": told}), (2, {"error": error})):
        promises.asked(id_, {}, may=("poison_request",))
        promises.answered({"id": id_, **frame})
        assert ending({"id": id_, **frame}) == "poison_request"
    assert promises.broken == []
    assert promises.endings == {"poison_request": 2}


class EndsEarly:
    @staticmethod
    def run(seed: int, quick: bool) -> Report:
        raise Stuck("no answer in 60 s")


def test_a_part_that_gets_stuck_has_broken_a_promise() -> None:
    assert tried(EndsEarly, 1, True).broken == ["the run ended early: no answer in 60 s"]  # type: ignore[arg-type]


def test_a_part_run_again_replaces_its_section_only() -> None:
    outcome = Outcome(signal.SIGKILL.name, 100, 32, 511, 512, 3, "words")
    first = report.section("One", "About it.", "command", "abc", Report([Row("what", "1")], [], (outcome,)))
    second = report.section("Two", "About it.", "command", "abc", Report([], ["it hung"]))
    document = report.merge(report.merge("", {"Two": second}, ["One", "Two"]), {"One": first}, ["One", "Two"])
    assert document.index("## One") < document.index("## Two")
    assert "| SIGKILL | 100 | 32 | 511 of 512 | 3 | words |" in document
    assert "**1 BROKEN**\n\n- it hung" in document
    assert report.merge(document, {}, ["One", "Two"]) == document
