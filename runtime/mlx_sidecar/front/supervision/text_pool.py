"""The text processes: started when they are needed, ended when they hang, and what a model may not do twice."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import TypeVar

from mlx_sidecar_protocol.errors import EngineLost, ModelUnsupported, ShuttingDown

from ...config import Config
from ...link.faults import error_from
from ...link.text_messages import FromText, ModelFolder, TextReady, TextRefused, TextReply, ToText
from ...link.text_work import clock_bound_s
from .text_worker import TextWorker, spawn

PROCESSES = 4  # at most; the second and later ones are there for the time that another one is kept busy
EACH_MODEL = 2  # at once: one model's requests leave a process for those of others
HELP_AFTER_S = 0.2  # that a request waits while all processes are busy: then one more is started
IDLE_S = 30.0  # after which a process beyond the first is ended
START_BOUND_S = 120.0
STARTS = 5  # in a row that came to nothing: then there is no text process to be had
AGAIN_AFTER_S = 0.1
DEATHS = 2  # of processes that one request ended: then its model is refused
REFUSALS = 256  # remembered

log = logging.getLogger(__name__)
Reply = TypeVar("Reply", bound=TextReply)


@dataclass(eq=False)
class _Job:
    message: ToText
    answer: asyncio.Future[TextReply]
    since: float
    deaths: int = 0  # of processes that were working on it

    @property
    def folder(self) -> ModelFolder:
        return self.message.folder


@dataclass(eq=False)
class _Seat:
    """A worker, what it is working on, and the directories it is known to have read."""

    worker: TextWorker
    job: _Job | None = None
    bound: asyncio.TimerHandle | None = None
    read: set[ModelFolder] = field(default_factory=set)


class TextPool:
    """Lives on the event loop. A request that a process was lost with is asked of another one.

    A model whose request ends ``DEATHS`` of them is refused by name, as long as its files are what they were.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._ops = count(1)
        self._seats: list[_Seat] = []
        self._waiting: deque[_Job] = deque()
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
            if seat.job is not None:
                _settle(seat.job, ShuttingDown())
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
        job = _Job(make(next(self._ops)), loop.create_future(), loop.time())
        if (because := self._refused.get(job.folder)) is not None:
            raise ModelUnsupported(job.folder.name, because)
        self._waiting.append(job)
        self._dispatch()
        try:
            answer = await job.answer
        finally:
            if job in self._waiting:  # its request was cancelled
                self._waiting.remove(job)
        assert isinstance(answer, reply)
        return answer

    # Who does what.

    def _dispatch(self) -> None:
        """Give waiting jobs to free processes, in their order, and see to it that there are enough."""
        busy = Counter(seat.job.folder.path for seat in self._seats if seat.job is not None)
        for job in list(self._waiting):
            if busy[job.folder.path] >= EACH_MODEL:
                continue
            if (seat := self._free_seat(job)) is None:
                break
            self._waiting.remove(job)
            busy[job.folder.path] += 1
            self._begin(seat, job)
        if self._waiting:
            self._get_help()

    def _free_seat(self, job: _Job) -> _Seat | None:
        free = [seat for seat in self._seats if seat.worker.ready and seat.job is None]
        return next((seat for seat in free if job.folder in seat.read), free[0] if free else None)

    def _begin(self, seat: _Seat, job: _Job) -> None:
        self._end_of_work(seat)  # and of its leisure
        seat.job = job
        bound_s = clock_bound_s(job.message)
        seat.bound = asyncio.get_running_loop().call_later(
            bound_s, seat.worker.kill, f"it did not answer within {bound_s:.0f} s"
        )
        try:
            seat.worker.ask(job.message)
        except (OverflowError, ValueError, TypeError) as error:  # a number that no link carries: a bug of ours
            log.error("a text process cannot be asked: %s", error)
            self._end_of_work(seat)
            _settle(job, EngineLost(f"what was asked cannot be sent: {error}"))

    def _get_help(self) -> None:
        """Start the first process at once; one more if a request has waited for long."""
        if not self._seats:
            self._add_process()
            return
        if len(self._seats) >= PROCESSES or any(not seat.worker.ready for seat in self._seats):
            return
        loop = asyncio.get_running_loop()
        due = self._waiting[0].since + HELP_AFTER_S
        if loop.time() >= due:
            self._add_process()
        else:
            loop.call_at(due, self._look_again)

    def _look_again(self) -> None:
        if self._waiting and not self._stopped:
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
        if isinstance(message, TextReady):
            self._failed_starts = 0
            self._end_of_work(seat)
        elif seat.job is not None and message.op == seat.job.message.op:
            job = seat.job
            self._end_of_work(seat)
            if isinstance(message, TextRefused):
                _settle(job, error_from(message.fault))
            else:
                seat.read.add(job.folder)
                if not job.answer.done():
                    job.answer.set_result(message)
        self._dispatch()
        self._dismiss_later(seat)

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

    def _lost(self, job: _Job, because: str) -> None:
        """A process was lost with ``job``: it is the only one that can have ended it."""
        log.warning("%s: a text process was lost: %s", job.folder.name, because)
        job.deaths += 1
        if job.deaths < DEATHS:
            if not job.answer.cancelled():
                self._waiting.appendleft(job)
            return
        because = f"what its files say of text ended {DEATHS} processes that read them, the last one since {because}"
        self._refused[job.folder] = because
        while len(self._refused) > REFUSALS:
            self._refused.popitem(last=False)
        for refused in [job, *(other for other in self._waiting if other.folder == job.folder)]:
            _settle(refused, ModelUnsupported(job.folder.name, because))
        self._waiting = deque(other for other in self._waiting if other.folder != job.folder)

    def _start_failed(self, because: str) -> None:
        self._failed_starts += 1
        log.error("a text process was lost before it was ready: %s", because)
        if self._failed_starts >= STARTS:
            self._failed_starts = 0  # the next request may try again
            self._fail_waiting(lambda: EngineLost(f"no process for texts can be started: {because}"))
        else:
            asyncio.get_running_loop().call_later(AGAIN_AFTER_S, self._look_again)

    def _fail_waiting(self, error: Callable[[], Exception]) -> None:
        waiting, self._waiting = self._waiting, deque()
        for job in waiting:
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


def _settle(job: _Job, error: Exception) -> None:
    if not job.answer.done():
        job.answer.set_exception(error)
