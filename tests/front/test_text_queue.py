"""Whose request is next: quick models before unknown ones, and those that take long keep no other waiting."""

from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from mlx_sidecar.front.supervision.text_queue import EACH_MODEL, SLOW, SLOW_AFTER_S, UNKNOWN_AFTER_S, Job, TextQueue
from mlx_sidecar.link.text_messages import ModelFolder, ModelRead, ReadModel


def job(path: str, since: float = 0.0, *, slow: bool = False) -> Job:
    loop = asyncio.new_event_loop()
    answer = loop.create_future()
    loop.close()
    return Job(ReadModel(0, ModelFolder(path, path)), ModelRead, answer, since, slow=slow)


def queue_of(*jobs: Job, quick: str = "") -> TextQueue:
    queue = TextQueue()
    for name in quick:
        queue.answered(job(name), quick=True)
    for each in jobs:
        queue.add(each)
    return queue


def test_a_model_that_answers_at_once_goes_before_one_that_has_waited_a_little_longer() -> None:
    unknown, known = job("a", 0.0), job("b", UNKNOWN_AFTER_S / 2)
    assert queue_of(unknown, known, quick="b").next_ones([]) == [known, unknown]
    assert queue_of(unknown, known).next_ones([]) == [unknown, known]


def test_nobody_waits_for_ever() -> None:
    slow, known = job("a", 0.0, slow=True), job("b", SLOW_AFTER_S + 1)
    assert queue_of(slow, known, quick="b").next_ones([]) == [slow, known]


def test_a_model_that_took_long_once_is_no_longer_known_as_quick() -> None:
    before, after = job("a", 0.1), job("b", 0.2)
    queue = queue_of(before, after, quick="ab")
    queue.answered(job("a"), quick=False)
    assert queue.next_ones([]) == [after, before]


def test_one_model_leaves_processes_to_others() -> None:
    first, other = job("a", 0.0), job("b", 9.0)
    assert queue_of(first, other).next_ones([job("a")] * EACH_MODEL) == [other]


def test_what_takes_long_leaves_processes_to_what_does_not() -> None:
    slow, quick = job("a", 0.0, slow=True), job("b", 9.0)
    running = [job(f"c{n}", slow=True) for n in range(SLOW)]
    assert queue_of(slow, quick).next_ones(running) == [quick]
    assert queue_of(slow, quick).next_ones(running[1:]) == [slow, quick]


def test_what_takes_long_keeps_no_other_request_of_its_model_waiting() -> None:
    slow, quick = job("a", 0.0, slow=True), job("a", 9.0)
    running = [job(f"c{n}", slow=True) for n in range(SLOW)]
    assert queue_of(slow, quick).next_ones(running) == [quick]


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans(), st.sampled_from(("add", "remove", "take")))))
def test_what_is_put_in_comes_out_once_and_in_the_order_of_its_model(steps: list[tuple[str, bool, str]]) -> None:
    queue = TextQueue()
    waiting: list[Job] = []
    for path, slow, step in steps:
        if step == "add":
            queue.add(added := job(path, slow=slow))
            waiting.append(added)
        elif step == "remove" and waiting:
            queue.remove(waiting.pop(len(path) % len(waiting)))
        elif step == "take":
            taken = queue.take_all(ModelFolder(path, path))
            assert set(taken) == {each for each in waiting if each.folder.path == path}
            waiting = [each for each in waiting if each not in taken]
        assert set(queue) == set(waiting)
        assert all(each in queue for each in waiting)
        for head in queue.next_ones([]):
            same = [each for each in waiting if (each.folder, each.slow) == (head.folder, head.slow)]
            assert head is same[0]
