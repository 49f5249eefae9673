"""The text processes: started when they are needed, ended when they hang, and what a model may not do twice."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from mlx_sidecar_protocol.errors import EngineLost, ModelUnsupported, ShuttingDown

from ...config import Config
from ...link.faults import error_from
from ...link.text_messages import FromText, ModelFolder, TextReady, TextRefused, TextReply, ToText
from ...link.text_work import clock_bound_s
from .text_queue import Job, TextQueue
from .text_verdicts import TextVerdicts
from .text_worker import TextWorker, spawn

PROCESSES = 4  # at most; the second and later ones are there for the time that another one is kept busy
HELP_AFTER_S = 0.2  # that a request waits while all processes are busy: then one more is started
BUSY_S = 1.0  # with one request: then, where a request waits for help and no more can be started, it makes room
IDLE_S = 30.0  # after which a process beyond the first is ended
START_BOUND_S = 120.0
STARTS = 5  # in a row that came to nothing: then there is no text process to be had
AGAIN_AFTER_S = 0.1

log = logging.getLogger(__name__)
Reply = TypeVar("Reply", bound=TextReply)


@dataclass(eq=False)
class _Seat:
    """A worker, what it is working on, and the directories it is known to have read."""

    worker: TextWorker
    job: Job | None = None
    bound: asyncio.TimerHandle | None = None
    read: set[ModelFolder] = field(default_factory=set)


class TextPool:
    """Lives on the event loop. A request that a process was lost with is asked of another one.

    A model whose request ends two of them is refused by name, as long as its files are what they were. A request that
    keeps a process busy while others wait begins anew, among those of its kind.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._op = 0
        self._seats: list[_Seat] = []
        self._queue = TextQueue()
        self._verdicts = TextVerdicts()
        self._failed_starts = 0
        self._no_start_before = 0.0  # on the loop's clock
        self._alarm: asyncio.TimerHandle | None = None
        self._stopped = False

    def start(self) -> None:
        """Have a process ready for the first request."""
        if not self._seats and not self._stopped:
            self._add_process()

    def stop(self) -> None:
        """End all processes for good; what waits for them is answered."""
        self._stopped = True
        self._fail_waiting(ShuttingDown)
        for seat in self._seats:
            if seat.job is not None:
                _settle(seat.job, ShuttingDown())
            seat.worker.kill("there is no more to do")
        for seat in self._seats:  # all of them die at the same time
            seat.worker.close()
        self._seats.clear()

    @property
    def pids(self) -> list[int]:
        return [seat.worker.pid for seat in self._seats]

    async def ask(self, make: Callable[[int], ToText], reply: type[Reply]) -> Reply:
        """What a text process answers to the message that ``make`` makes of its number.

        Raises:
            ModelUnsupported: the model has ended too many processes, or made a library fail.
            EngineLost: no text process can be started.
        """
        if self._stopped:
            raise ShuttingDown
        loop = asyncio.get_running_loop()
        self._op += 1
        job = Job(make(self._op), reply, loop.create_future(), loop.time())
        self._verdicts.check(job)
        self._queue.add(job)
        self._dispatch()
        try:
            answer = await job.answer
        except asyncio.CancelledError:
            self._give_up(job)
            raise
        assert isinstance(answer, reply)
        return answer

    def _give_up(self, job: Job) -> None:
        """Its request was cancelled. What works on it is let be, unless it is one of the few that may take long."""
        self._verdicts.left(job)
        if job in self._queue:
            self._queue.remove(job)
        elif job.slow and (seat := next((seat for seat in self._seats if seat.job is job), None)) is not None:
            self._interrupt(seat)

    # Who does what.

    def _dispatch(self) -> None:
        """Give waiting jobs to free processes, and see to it that there are enough."""
        while jobs := self._queue.next_ones([seat.job for seat in self._seats if seat.job is not None]):
            if (seat := self._free_seat(jobs[0])) is None:
                self._get_help(jobs)
                return
            self._queue.remove(jobs[0])
            self._begin(seat, jobs[0])

    def _free_seat(self, job: Job) -> _Seat | None:
        free = [seat for seat in self._seats if seat.worker.ready and seat.job is None]
        return next((seat for seat in free if job.folder in seat.read), free[0] if free else None)

    def _begin(self, seat: _Seat, job: Job) -> None:
        self._end_of_work(seat)  # and of its leisure
        loop = asyncio.get_running_loop()
        seat.job, job.began = job, loop.time()
        bound_s = clock_bound_s(job.message)
        seat.bound = loop.call_later(bound_s, seat.worker.kill, f"it did not answer within {bound_s:.0f} s")
        try:
            seat.worker.ask(job.message)
        except (OverflowError, ValueError, TypeError) as error:  # a number that no link carries: a bug of ours
            log.error("a text process cannot be asked: %s", error)
            self._end_of_work(seat)
            _settle(job, EngineLost(f"what was asked cannot be sent: {error}"))

    def _get_help(self, jobs: Sequence[Job]) -> None:
        """Start the first process at once; one more if one of ``jobs``, which might begin, has waited for long."""
        now = asyncio.get_running_loop().time()
        if any(not seat.worker.ready for seat in self._seats):
            return  # one is coming
        due = self._no_start_before
        if self._seats:
            due = max(due, min(job.since for job in jobs) + HELP_AFTER_S)
        if now < due:
            self._look_again_at(due)
        elif len(self._seats) < PROCESSES:
            self._add_process()
        elif any(not job.slow for job in jobs):
            self._make_room(now)

    def _make_room(self, now: float) -> None:
        """Have another process in place of one whose work nobody waits for, or that takes long over it."""
        working = [(seat, seat.job) for seat in self._seats if seat.job is not None and not seat.job.slow]
        abandoned = [seat for seat, job in working if job.answer.done()]
        seat, began = min(((seat, job.began) for seat, job in working), key=lambda pair: pair[1])
        if abandoned:
            self._interrupt(abandoned[0])
        elif now >= began + BUSY_S:
            self._interrupt(seat)
        else:
            self._look_again_at(began + BUSY_S)

    def _interrupt(self, seat: _Seat) -> None:
        """What the process was working on begins anew later, as one of those that take long."""
        job = seat.job
        assert job is not None
        self._end_of_work(seat)
        self._seats.remove(seat)
        seat.worker.kill("others waited")
        self._queue.answered(job, quick=False)
        job.slow = True
        if not job.answer.done():
            self._queue.add(job)
        self._add_process()

    def _look_again_at(self, due: float) -> None:
        if self._alarm is None or self._alarm.cancelled() or due < self._alarm.when():
            if self._alarm is not None:
                self._alarm.cancel()
            self._alarm = asyncio.get_running_loop().call_at(due, self._look_again)

    def _look_again(self) -> None:
        self._alarm = None
        if not self._stopped:
            self._dispatch()

    def _add_process(self) -> None:
        try:
            process, link = spawn(self._config)
        except OSError as error:
            self._start_failed(f"it cannot be started: {error}")
            return
        worker = TextWorker(process, self._on_answer, self._on_end)
        seat = _Seat(worker)
        loop = asyncio.get_running_loop()
        seat.bound = loop.call_later(START_BOUND_S, worker.kill, f"it did not start within {START_BOUND_S:g} s")
        self._seats.append(seat)
        connecting = loop.create_task(loop.create_connection(lambda: worker, sock=link))
        connecting.add_done_callback(lambda task: task.cancelled() or task.exception())

    # What comes of it.

    def _on_answer(self, worker: TextWorker, message: FromText) -> None:
        seat = self._seat_of(worker)
        if seat is None:
            return
        if isinstance(message, TextReady) and not seat.worker.ready:
            seat.worker.ready = True
            self._failed_starts = 0
            self._end_of_work(seat)
        elif seat.job is not None and _answers(message, seat.job):
            self._answered(seat, seat.job, message)
        else:  # what runs there may be a model's own code
            worker.kill("it said what it was not asked")
            return
        self._dispatch()
        self._dismiss_later(seat)

    def _answered(self, seat: _Seat, job: Job, message: FromText) -> None:
        self._end_of_work(seat)
        self._queue.answered(job, quick=asyncio.get_running_loop().time() < job.began + BUSY_S)
        if isinstance(message, TextRefused):
            _settle(job, error_from(message.fault))
            return
        seat.read.add(job.folder)
        if not job.answer.done() and not isinstance(message, TextReady):
            job.answer.set_result(message)

    def _on_end(self, worker: TextWorker, because: str) -> None:
        seat = self._seat_of(worker)
        if seat is None or self._stopped:
            return
        self._seats.remove(seat)
        job = seat.job
        self._end_of_work(seat)
        if not worker.ready:
            self._start_failed(because)
            return
        if job is not None:
            self._lost(job, because)
        self._dispatch()

    def _lost(self, job: Job, because: str) -> None:
        """A process was lost with ``job``: it is the only one that can have ended it."""
        log.warning("%s: a text process was lost: %s", job.folder.name, because)
        refusal = self._verdicts.lost(job, because)
        if refusal is not None:
            for refused in [job, *self._queue.take_all(job.folder)]:
                _settle(refused, ModelUnsupported(job.folder.name, refusal))
        elif not job.answer.done():
            job.slow = True
            self._queue.add(job)

    def _start_failed(self, because: str) -> None:
        loop = asyncio.get_running_loop()
        self._no_start_before = loop.time() + AGAIN_AFTER_S
        log.error("a text process was lost before it was ready: %s", because)
        if any(seat.worker.ready for seat in self._seats):
            self._no_start_before += HELP_AFTER_S  # no need: what waits gets its turn with those that are there
        else:
            self._failed_starts += 1
        if self._failed_starts >= STARTS:
            self._failed_starts = 0  # the next request may try again
            self._fail_waiting(lambda: EngineLost(f"no process for texts can be started: {because}"))
        else:
            self._look_again_at(self._no_start_before)

    def _fail_waiting(self, error: Callable[[], Exception]) -> None:
        for job in self._queue.take_all():
            _settle(job, error())

    def _end_of_work(self, seat: _Seat) -> None:
        seat.job = None
        if seat.bound is not None:
            seat.bound.cancel()
            seat.bound = None

    def _dismiss_later(self, seat: _Seat) -> None:
        """End a process that was started as help and has had nothing to do for a while."""
        if seat.job is None and seat.bound is None and len(self._seats) > 1:
            seat.bound = asyncio.get_running_loop().call_later(IDLE_S, self._dismiss, seat)

    def _dismiss(self, seat: _Seat) -> None:
        seat.bound = None
        if seat in self._seats and seat.job is None and len(self._seats) > 1:
            self._seats.remove(seat)
            seat.worker.kill("it has nothing to do")

    def _seat_of(self, worker: TextWorker) -> _Seat | None:
        return next((seat for seat in self._seats if seat.worker is worker), None)


def _answers(message: FromText, job: Job) -> bool:
    return isinstance(message, job.reply | TextRefused) and message.op == job.message.op


def _settle(job: Job, error: Exception) -> None:
    if not job.answer.done():
        job.answer.set_exception(error)
