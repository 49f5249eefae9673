"""The measures of the structure are right on graphs small enough to count by hand."""

from __future__ import annotations

from benchmarks.structure import Call, circles, crossed, floors


def test_a_chain_has_as_many_floors_as_rooms_and_a_circle_counts_as_one() -> None:
    assert floors({"a": {"b"}, "b": {"c"}, "c": set()}) == 3
    assert floors({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == 2


def test_circles_are_the_groups_that_reach_each_other() -> None:
    assert circles({"a": {"b"}, "b": {"a"}, "c": {"a"}}) == [{"a", "b"}]
    assert circles({"a": {"b"}, "b": set()}) == []


def test_switches_are_counted_on_each_thread() -> None:
    calls = [Call(0.0, thread, file, "f") for thread, file in ((1, "a"), (2, "b"), (1, "a"), (1, "b"), (1, "a"))]
    assert crossed(calls) == (2, 2)
