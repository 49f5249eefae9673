"""The text processes: started when they are needed, ended when they hang, and what a model may not do twice."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable
from itertools import count, islice
from typing import TypeVar

from mlx_sidecar_protocol.errors import EngineLost, ModelUnsupported, ShuttingDown

from ...config import Config
from ...link.faults import error_from
from ...link.text_messages import FromText, ModelFolder, TextReady, TextRefused, TextReply, ToText
from ...link.text_work import clock_bound_s
from .activity import Activity, activity
from .text_seat import Job, Seat
from .text_worker import TextWorker, spawn

PROCESSES = 4  # at most; the second and later ones are there for the time that another one is kept busy
EACH_MODEL = 2  # at once: one model's requests leave a process for those of others
LOOK_AFTER_S = 0.2  # that a process is busy with one request: then it is looked at, and again after ``AGAIN_AFTER_S``
IDLE_S = 30.0  # after which a process beyond the first is ended
START_BOUND_S = 120.0
STARTS = 5  # in a row that came to nothing: then there is no text process to be had
AGAIN_AFTER_S = 0.1
LOOKS = 20  # at a process that the machine keeps from working: others do not wait for better times
DEATHS = 2  # of processes that one request ended: then its model is refused
REFUSALS = 256  # remembered

log = logging.getLogger(__name__)
Reply = TypeVar("Reply", bound=TextReply)


class TextPool:
    """Lives on the event loop. A request that a process was lost with is asked of another one.

    A model whose request ends ``DEATHS`` of them is refused by name, as long as its files are what they were.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._ops = count(1)
        self._seats: list[Seat] = []
        self._waiting: OrderedDict[Job, None] = OrderedDict()
        self._refused: OrderedDict[ModelFolder, str] = OrderedDict()
        self._failed_starts = 0
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
            seat.disarm()
            for job in seat.jobs:
                job.fail(ShuttingDown())
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
        job = Job(make(next(self._ops)))
        if (because := self._refused.get(job.folder)) is not None:
            raise ModelUnsupported(job.folder.name, because)
        self._waiting[job] = None
        self._dispatch()
        try:
            answer = await job.answer
        finally:
            self._waiting.pop(job, None)  # its request was cancelled
        assert isinstance(answer, reply)
        return answer

    # Which process does what.

    def _dispatch(self) -> None:
        """Give waiting jobs to processes, in their order, and see to it that there are enough."""
        busy = Counter(path for seat in self._seats for path in seat.paths)
        given: list[Job] = []
        for job in self._waiting:
            if not any(seat.has_room for seat in self._seats):
                break
            if (seat := self._seat_for(job, busy[job.folder.path])) is not None:
                busy[job.folder.path] += job.folder.path not in seat.paths
                self._give(seat, job)
                given.append(job)
        for job in given:
            del self._waiting[job]
        if any(busy[job.folder.path] < EACH_MODEL for job in self._waiting) and all(seat.slow for seat in self._seats):
            self._add_process()

    def _seat_for(self, job: Job, busy: int) -> Seat | None:
        """Where ``job`` is begun soonest; None if it has to wait. ``busy`` processes have work of its model already."""
        takers = [seat for seat in self._seats if seat.takes(job)]
        if busy >= EACH_MODEL:
            takers = [seat for seat in takers if job.folder.path in seat.paths]
        return min(takers, key=lambda seat: (len(seat.jobs), job.folder not in seat.read), default=None)

    def _give(self, seat: Seat, job: Job) -> None:
        try:
            seat.worker.ask(job.message)
        except (OverflowError, ValueError, TypeError) as error:  # a number that no link carries: a bug of ours
            log.error("a text process cannot be asked: %s", error)
            job.fail(EngineLost(f"what was asked cannot be sent: {error}"))
            return
        seat.jobs.append(job)
        if len(seat.jobs) == 1:
            self._next_begins(seat)

    def _next_begins(self, seat: Seat) -> None:
        """The process begins with the first job it has, or has nothing to do."""
        seat.slow = False
        if seat.jobs:
            seat.arm(LOOK_AFTER_S, self._look, seat)
        elif len(self._seats) > 1:
            seat.arm(IDLE_S, self._dismiss, seat)
        else:
            seat.disarm()

    def _look(self, seat: Seat, looks: int = LOOKS, before: Activity | None = None) -> None:
        """Whether the process has worked for long, or is kept from it by the machine."""
        now = activity(seat.worker.pid)
        if looks and (before is None or (now is not None and now.waited_since(before, AGAIN_AFTER_S))):
            seat.arm(AGAIN_AFTER_S, self._look, seat, looks - 1, before or now or Activity(0.0, runnable=False))
        else:
            self._slow(seat)

    def _slow(self, seat: Seat) -> None:
        """What ``seat`` works on takes its time: others do not wait for it, and it may not take for ever."""
        seat.slow = True
        bound_s = clock_bound_s(seat.jobs[0].message)
        seat.arm(bound_s, seat.worker.kill, f"it did not answer within {bound_s:.0f} s")
        # It will come to them all the same; the answer that is there first counts.
        self._put_back(islice(seat.jobs, 1, None))
        self._dispatch()

    def _put_back(self, jobs: Iterable[Job]) -> None:
        """Have ``jobs`` done by others, before all that came later."""
        for job in reversed([job for job in jobs if not job.answer.done()]):
            self._waiting[job] = None
            self._waiting.move_to_end(job, last=False)

    def _dismiss(self, seat: Seat) -> None:
        if len(self._seats) > 1:
            self._seats.remove(seat)
            seat.worker.kill("it has nothing to do")

    def _look_again(self) -> None:
        if self._waiting and not self._stopped:
            self._dispatch()

    def _add_process(self) -> None:
        """Start one more, if there may be one more."""
        if len(self._seats) >= PROCESSES:
            return
        try:
            process, link = spawn(self._config)
        except OSError as error:
            self._start_failed(f"it cannot be started: {error}")
            return
        seat = Seat(TextWorker(process, self._on_answer, self._on_end))
        seat.arm(START_BOUND_S, seat.worker.kill, f"it did not start within {START_BOUND_S:g} s")
        self._seats.append(seat)
        seat.worker.attach(link)

    # What comes of it.

    def _on_answer(self, worker: TextWorker, message: FromText) -> None:
        seat = self._seat_of(worker)
        if seat is None:
            return
        if isinstance(message, TextReady):
            self._failed_starts = 0
        elif seat.jobs and message.op == seat.jobs[0].message.op:
            job = seat.jobs.popleft()
            if isinstance(message, TextRefused):
                job.fail(error_from(message.fault))
            else:
                seat.read.add(job.folder)
                job.succeed(message)
        self._next_begins(seat)
        self._dispatch()

    def _on_end(self, worker: TextWorker, because: str) -> None:
        seat = self._seat_of(worker)
        if seat is None or self._stopped:
            return
        self._seats.remove(seat)
        seat.disarm()
        if not worker.ready:
            self._start_failed(because)
            return
        self._put_back(islice(seat.jobs, 1, None))
        if seat.jobs:
            self._lost(seat.jobs[0], because)
        self._dispatch()

    def _lost(self, job: Job, because: str) -> None:
        """A process was lost with ``job``: it is the only one that can have ended it."""
        log.warning("%s: a text process was lost: %s", job.folder.name, because)
        job.deaths += 1
        if job.deaths < DEATHS:
            self._put_back([job])
            return
        because = f"what its files say of text ended {DEATHS} processes that read them, the last one since {because}"
        self._refused[job.folder] = because
        while len(self._refused) > REFUSALS:
            self._refused.popitem(last=False)
        for refused in [job, *(other for other in self._waiting if other.folder == job.folder)]:
            refused.fail(ModelUnsupported(job.folder.name, because))

    def _start_failed(self, because: str) -> None:
        self._failed_starts += 1
        log.error("a text process was lost before it was ready: %s", because)
        if self._failed_starts >= STARTS:
            self._failed_starts = 0  # the next request may try again
            self._fail_waiting(lambda: EngineLost(f"no process for texts can be started: {because}"))
        else:
            asyncio.get_running_loop().call_later(AGAIN_AFTER_S, self._look_again)

    def _fail_waiting(self, error: Callable[[], Exception]) -> None:
        waiting, self._waiting = self._waiting, OrderedDict()
        for job in waiting:
            job.fail(error())

    def _seat_of(self, worker: TextWorker) -> Seat | None:
        return next((seat for seat in self._seats if seat.worker is worker), None)
