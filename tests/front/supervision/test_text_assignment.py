"""Which waiting request a text process is given next."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

from mlx_sidecar.front.supervision.text_assignment import EACH_MODEL, LONG_S, SLOW, Assignment
from mlx_sidecar.front.supervision.text_queue import TextQueue
from mlx_sidecar.front.supervision.text_seat import Job, Seat
from mlx_sidecar.front.supervision.text_worker import TextWorker
from mlx_sidecar.link.text_messages import Encode, Encoded, ModelFolder


def on_loop(test: Callable[[], None]) -> None:
    """Jobs are made on an event loop."""

    async def run() -> None:
        test()

    asyncio.run(run())


def a_job(model: str, *, slow: bool = False, asked_s: float = 0.0) -> Job:
    job = Job(Encode(1, ModelFolder(model, f"/{model}"), "text", add_special=True), Encoded)
    job.slow, job.asked_s = slow, asked_s
    return job


def a_seat(*jobs: Job, slow: bool = False) -> Seat:
    seat = Seat(cast(TextWorker, SimpleNamespace(ready=True, killed=False)))
    seat.jobs.extend(jobs)
    seat.slow = slow
    return seat


def queued(*jobs: Job) -> TextQueue:
    queue = TextQueue()
    for job in jobs:
        queue.put(job)
    return queue


def choices(assignment: Assignment) -> list[tuple[Any, Job]]:
    """All choices, each given to its seat before the next is asked for."""
    made = []
    for seat, job in assignment.choices():
        seat.jobs.append(job)
        made.append((seat, job))
    return made


def test_jobs_go_to_idle_processes_in_their_order() -> None:
    def test() -> None:
        seats, jobs = [a_seat(), a_seat()], [a_job("a"), a_job("b"), a_job("c")]
        assert choices(Assignment(seats, queued(*jobs), 0.0)) == list(zip(seats, jobs, strict=False))

    on_loop(test)


def test_one_model_leaves_processes_to_others() -> None:
    def test() -> None:
        seats = [a_seat() for _ in range(EACH_MODEL + 1)]
        others = a_job("b")
        waiting = queued(*(a_job("a") for _ in range(EACH_MODEL + 1)), others)
        assert [job.folder.name for _, job in choices(Assignment(seats, waiting, 0.0))] == ["a"] * EACH_MODEL + ["b"]

    on_loop(test)


def test_few_slow_jobs_run_at_once() -> None:
    def test() -> None:
        busy = [a_seat(a_job(f"m{number}", slow=True), slow=True) for number in range(SLOW)]
        assert choices(Assignment([*busy, a_seat()], queued(a_job("x", slow=True)), 0.0)) == []

    on_loop(test)


def test_no_small_job_passes_one_that_is_overdue() -> None:
    def test() -> None:
        working = a_seat(a_job("a"))
        working.read.add(a_job("a").folder)  # so that more small jobs about it could be given ahead
        waiting = queued(a_job("b"), a_job("a", asked_s=LONG_S))
        assert [job.folder.name for _, job in choices(Assignment([working], waiting, LONG_S / 2))] == ["a"]
        assert choices(Assignment([working], waiting, LONG_S)) == []

    on_loop(test)


def test_a_further_process_is_needed_only_where_all_are_slow() -> None:
    def test() -> None:
        job = a_job("b")
        assert Assignment([a_seat(a_job("a"), slow=True)], queued(job), 0.0).in_need is job
        assert Assignment([a_seat(a_job("a"), slow=True), a_seat()], queued(job), 0.0).in_need is None

    on_loop(test)
