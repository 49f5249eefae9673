"""The order of requests: quick models come before unknown ones, and both before slow jobs."""

from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from mlx_sidecar.front.supervision.text_queue import KNOWN, TextQueue
from mlx_sidecar.front.supervision.text_seat import Job
from mlx_sidecar.link.text_messages import ModelFolder, ModelRead, ReadModel


def job(path: str, *, slow: bool = False) -> Job:
    async def make() -> Job:
        return Job(ReadModel(0, ModelFolder(path, path)), ModelRead)

    made = asyncio.run(make())
    made.slow = slow
    return made


def queue_of(*jobs: Job, quick: str = "") -> TextQueue:
    queue = TextQueue()
    for name in quick:
        queue.answered(job(name), quick=True)
    for each in jobs:
        queue.put(each)
    return queue


def test_a_model_that_answers_at_once_goes_before_one_that_nobody_has_asked() -> None:
    unknown, known = job("a"), job("b")
    assert list(queue_of(unknown, known, quick="b")) == [known, unknown]
    assert list(queue_of(unknown, known)) == [unknown, known]


def test_what_takes_long_goes_behind_all_others() -> None:
    slow, unknown = job("a", slow=True), job("b")
    assert list(queue_of(slow, unknown, quick="a")) == [unknown, slow]


def test_a_model_that_took_long_once_is_no_longer_known_as_quick() -> None:
    one, other = job("a"), job("b")
    queue = queue_of(quick="ab")
    queue.answered(one, quick=False)
    queue.put(one)
    queue.put(other)
    assert list(queue) == [other, one]


def test_the_models_that_are_known_are_bounded() -> None:
    queue = queue_of(quick="a")
    for n in range(KNOWN):
        queue.answered(job(str(n)), quick=True)
    forgotten, known = job("a"), job("5")
    queue.put(forgotten)
    queue.put(known)
    assert list(queue) == [known, forgotten]


def test_what_is_put_back_goes_before_what_came_later() -> None:
    first, second, later = job("a"), job("b"), job("c")
    queue = queue_of(later)
    queue.put_back([first, second])
    assert list(queue) == [first, second, later]


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans(), st.sampled_from(("put", "drop", "back", "quick")))))
def test_every_job_comes_out_once_and_in_the_order_of_its_kind(steps: list[tuple[str, bool, str]]) -> None:
    queue, waiting = TextQueue(), list[Job]()
    for path, slow, step in steps:
        if step == "put":
            queue.put(put := job(path, slow=slow))
            waiting.append(put)
        elif step == "drop" and waiting:
            queue.drop(waiting.pop(len(waiting) // 2))
        elif step == "back":
            queue.put_back([back := job(path, slow=slow)])
            waiting.insert(0, back)
        elif step == "quick":
            queue.answered(job(path), quick=slow)
        assert sorted(map(id, queue)) == sorted(map(id, waiting))
    assert [each for each in queue if each.slow] == [each for each in waiting if each.slow]
    assert sorted(map(id, queue.take_all())) == sorted(map(id, waiting))
    assert not list(queue)
