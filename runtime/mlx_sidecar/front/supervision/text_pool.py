"""The text processes: started when they are needed, ended when they hang, and what a model may not do twice."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from itertools import chain, count, islice

from mlx_sidecar_protocol.errors import EngineLost, InternalError, ModelUnsupported, RpcError, ShuttingDown

from ...config import Config
from ...link.faults import error_from
from ...link.text_messages import FromText, TextReady, TextRefused, ToText
from ...link.text_work import clock_bound_s
from .activity import Activity, activity
from .text_queue import TextQueue
from .text_seat import Job, Reply, Seat
from .text_verdicts import TextVerdicts
from .text_worker import TextWorker, spawn

PROCESSES = 4  # at most; the second and later ones are there for the time that another one is kept busy
EACH_MODEL = 2  # at once: one model's requests leave a process for those of others
SLOW = 2  # at once, of requests that take long: the other processes are for those that take no time
BUSY_S = 1.0  # with one request: then, where others wait and there are as many processes as may be, it makes room
LOOK_AFTER_S = 0.2  # that a process is busy with one request: then it is looked at, and again after ``AGAIN_AFTER_S``
IDLE_S = 30.0  # after which a process beyond the first is ended
START_BOUND_S = 120.0
STARTS = 5  # in a row that came to nothing: then there is no text process to be had
AGAIN_AFTER_S = 0.1
LOOKS = 20  # at a process that the machine keeps from working: others do not wait for better times

log = logging.getLogger(__name__)


class TextPool:
    """Lives on the event loop. A request that a process was lost with is asked of another one.

    A model whose request ends two of them is refused by name, as long as its files are what they were. A request that
    keeps a process busy while others wait begins anew, among a few of its kind.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._ops = count(1)
        self._seats: list[Seat] = []
        self._waiting = TextQueue()
        self._verdicts = TextVerdicts()
        self._failed_starts = 0
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
            seat.disarm()
            for job in seat.jobs:
                job.fail(ShuttingDown())
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
        job = Job(make(next(self._ops)), reply)
        self._verdicts.check(job, asyncio.get_running_loop().time())
        self._waiting.put(job)
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
        self._waiting.drop(job)
        self._verdicts.left(job)
        if job.slow and (seat := next((seat for seat in self._seats if seat.works_on(job)), None)) is not None:
            self._interrupt(seat)

    # Which process does what.

    def _dispatch(self) -> None:
        """Give waiting jobs to processes, in their order, and see to it that there are enough."""
        busy = Counter(path for seat in self._seats for path in seat.paths)
        slow = sum(job.slow for seat in self._seats for job in islice(seat.jobs, 1))
        given: list[Job] = []
        overdue = self._overdue(busy)
        for job in chain(overdue, (job for job in self._waiting if job not in overdue)):
            if not any(seat.has_room for seat in self._seats) or (job.slow and slow >= SLOW):
                break
            seat = self._seat_for(job, busy[job.folder.path])
            if seat is None and overdue:
                break  # what processes have been given ends soon, and then it is the turn of what waits for a free one
            if seat is not None:
                busy[job.folder.path] += job.folder.path not in seat.paths
                slow += job.slow
                self._give(seat, job)
                given.append(job)
        for job in given:
            self._waiting.drop(job)
        if all(seat.slow for seat in self._seats):
            able = (job for job in self._waiting if busy[job.folder.path] < EACH_MODEL)
            if (first := next(able, None)) is not None and not (first.slow and slow >= SLOW):
                self._get_help(first)

    def _overdue(self, busy: Counter[str]) -> list[Job]:
        """The request that has waited longest, if that is too long: small ones could pass it for ever.

        While some process is at work for long, models that were not asked yet wait: they may be what takes long.
        """
        quick_alone = any(seat.slow for seat in self._seats)
        able = self._waiting.firsts(lambda job: busy[job.folder.path] < EACH_MODEL, quick_alone=quick_alone)
        oldest = min(able, key=lambda job: job.asked_s, default=None)
        if oldest is None or asyncio.get_running_loop().time() < oldest.asked_s + LOOK_AFTER_S:
            return []
        return [oldest]

    def _get_help(self, job: Job) -> None:
        """All processes are at work for long, and ``job`` might begin."""
        if len(self._seats) < PROCESSES:
            self._add_process()
        elif not job.slow:
            self._make_room()

    def _make_room(self) -> None:
        """Have another process in place of one whose work nobody waits for, or that has taken longest over it."""
        seats = [seat for seat in self._seats if not seat.jobs[0].slow]
        now = asyncio.get_running_loop().time()
        abandoned = (seat for seat in seats if seat.jobs[0].answer.done())
        seat = next(abandoned, None) or min(seats, key=lambda seat: seat.began_s)
        if seat.jobs[0].answer.done() or now >= seat.began_s + BUSY_S:
            self._interrupt(seat)
        else:
            self._look_again_at(seat.began_s + BUSY_S)

    def _interrupt(self, seat: Seat) -> None:
        """What the process works on begins anew later, as one of those that take long."""
        self._seats.remove(seat)
        seat.disarm()
        seat.worker.kill("others waited")
        first, *others = seat.jobs
        self._waiting.put_back(others)
        self._waiting.answered(first, quick=False)
        first.slow = True
        if first.optional:
            first.fail(ModelUnsupported(first.folder.name, "others waited for the process that was asked"))
        if not first.answer.done():
            self._waiting.put(first)
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
        seat.began_s = asyncio.get_running_loop().time()
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
        self._waiting.put_back(islice(seat.jobs, 1, None))
        self._dispatch()

    def _dismiss(self, seat: Seat) -> None:
        if len(self._seats) > 1:
            self._seats.remove(seat)
            seat.worker.kill("it has nothing to do")

    def _look_again_at(self, due_s: float) -> None:
        if self._alarm is not None:
            due_s = min(due_s, self._alarm.when())
            self._alarm.cancel()
        self._alarm = asyncio.get_running_loop().call_at(due_s, self._look_again)

    def _look_again(self) -> None:
        self._alarm = None
        if not self._stopped:
            self._dispatch()

    def _add_process(self) -> None:
        if self._alarm is not None and self._failed_starts:
            return  # it is tried again soon
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
        if isinstance(message, TextReady) and not worker.ready:
            worker.ready = True
            self._failed_starts = 0
        elif seat.jobs and seat.jobs[0].answers(message):
            self._answered(seat, seat.jobs.popleft(), message)
        else:  # what runs there may be a model's own code
            worker.kill("it said what it was not asked")
            return
        self._next_begins(seat)
        self._dispatch()

    def _answered(self, seat: Seat, job: Job, message: FromText) -> None:
        self._waiting.drop(job)
        self._waiting.answered(job, quick=not (seat.slow or job.slow))
        if isinstance(message, TextRefused):
            job.fail(_error_of(message))
        elif not isinstance(message, TextReady):
            seat.read.add(job.folder)
            job.succeed(message)

    def _on_end(self, worker: TextWorker, because: str) -> None:
        seat = self._seat_of(worker)
        if seat is None or self._stopped:
            return
        self._seats.remove(seat)
        seat.disarm()
        if not worker.ready:
            self._start_failed(because)
            return
        self._waiting.put_back(islice(seat.jobs, 1, None))
        if seat.jobs:
            self._lost(seat.jobs[0], because, forced=worker.forced)
        self._dispatch()

    def _lost(self, job: Job, because: str, *, forced: bool) -> None:
        """A process was lost with ``job``: it is the only one that can have ended it."""
        log.warning("%s: a text process was lost: %s", job.folder.name, because)
        if job.optional:  # the request that needs it will tell, and be judged
            job.fail(ModelUnsupported(job.folder.name, f"it ended the process that was asked: {because}"))
            return
        refusal = self._verdicts.lost(job, because, asyncio.get_running_loop().time(), forced=forced)
        if refusal is None:
            job.slow = True
            self._waiting.put_back([job])
            return
        for refused in [job, *(other for other in self._waiting if other.folder == job.folder)]:
            self._waiting.drop(refused)
            refused.fail(ModelUnsupported(job.folder.name, refusal))

    def _start_failed(self, because: str) -> None:
        log.error("a text process was lost before it was ready: %s", because)
        self._failed_starts += 1
        if self._failed_starts >= STARTS and not any(seat.worker.ready for seat in self._seats):
            self._failed_starts = 0  # the next request may try again
            self._fail_waiting(lambda: EngineLost(f"no process for texts can be started: {because}"))
        else:  # what waits gets its turn with those that are there, if any are
            self._look_again_at(asyncio.get_running_loop().time() + AGAIN_AFTER_S)

    def _fail_waiting(self, error: Callable[[], Exception]) -> None:
        for job in self._waiting.take_all():
            job.fail(error())

    def _seat_of(self, worker: TextWorker) -> Seat | None:
        return next((seat for seat in self._seats if seat.worker is worker), None)


def _error_of(refused: TextRefused) -> RpcError:
    """What a text process refused with. What runs there may be a model's own code, so it may be no error at all."""
    try:
        return error_from(refused.fault)
    except (KeyError, TypeError, ValueError):
        log.exception("a refusal of a text process cannot be read")
        return InternalError()
