"""The pool starts text processes when needed, replaces them when they hang, and refuses models that end them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from itertools import count, islice

from mlx_sidecar_protocol.errors import EngineLost, InternalError, ModelUnsupported, RpcError, ShuttingDown

from ...config import Config
from ...link.faults import error_from
from ...link.text_messages import FromText, TextReady, TextRefused, ToText
from ...link.text_work import clock_bound_s
from .activity import Activity, activity
from .text_assignment import LONG_S, Assignment
from .text_queue import TextQueue
from .text_seat import Job, Reply, Seat
from .text_verdicts import TextVerdicts
from .text_worker import TextWorker, spawn

PROCESSES = 4  # at most; a second one is started when the first is slow
BUSY_S = 1.0  # after so long with one request a process is replaced, if other requests wait and no process may be added
IDLE_S = 30.0  # after which a process beyond the first is ended
START_BOUND_S = 120.0
STARTS = 5  # failed starts in a row, after which waiting requests are refused
AGAIN_AFTER_S = 0.1  # between two looks at a busy process, and before the next start after a failed one
LOOKS = 20  # at most, at a process without a processor; then it counts as slow all the same

log = logging.getLogger(__name__)


class TextPool:
    """Answers requests in up to ``PROCESSES`` text processes; lives on the event loop.

    A request whose process was lost is sent to another one. A model with a request that ends two processes is refused
    by name until its files change. A request that keeps a process busy while others wait begins anew, and at most
    ``SLOW`` such requests run at a time.
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
        """End all processes for good, and answer waiting requests with ShuttingDown."""
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
        """Send the message that ``make`` builds from its number, and return the answer, of type ``reply``.

        Raises:
            ModelUnsupported: the model has ended too many processes, or made a library fail.
            InvalidParams: the same of a form.
            EngineLost: no text process can be started.
            ShuttingDown: the pool was stopped.
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
        """Forget a cancelled job. Its process is ended only if the job is slow, because slow jobs are few at a time."""
        self._waiting.drop(job)
        self._verdicts.left(job)
        if job.slow and (seat := next((seat for seat in self._seats if seat.works_on(job)), None)) is not None:
            self._interrupt(seat)

    # The work of each process.

    def _dispatch(self) -> None:
        """Give waiting jobs to processes, and start or free a process if all are slow."""
        assignment = Assignment(self._seats, self._waiting, asyncio.get_running_loop().time())
        given = []
        for seat, job in assignment.choices():
            self._give(seat, job)
            given.append(job)
        for job in given:
            self._waiting.drop(job)
        if (job_in_need := assignment.in_need) is not None:
            self._get_help(job_in_need)

    def _get_help(self, job: Job) -> None:
        """Add a process for ``job``, or free one, because all processes are slow."""
        if len(self._seats) < PROCESSES:
            self._add_process()
        elif not job.slow:
            self._make_room()

    def _make_room(self) -> None:
        """Replace a process that its caller has left, or else the one that has taken longest, after ``BUSY_S``."""
        seats = [seat for seat in self._seats if not seat.jobs[0].slow]
        now = asyncio.get_running_loop().time()
        abandoned = (seat for seat in seats if seat.jobs[0].answer.done())
        seat = next(abandoned, None) or min(seats, key=lambda seat: seat.began_s)
        if seat.jobs[0].answer.done() or now >= seat.began_s + BUSY_S:
            self._interrupt(seat)
        else:
            self._look_again_at(seat.began_s + BUSY_S)

    def _interrupt(self, seat: Seat) -> None:
        """Replace the process of ``seat``; its present job begins anew later, as a slow one."""
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
        """Start the clock of the seat's next job, or of its idleness."""
        seat.slow = False
        seat.began_s = asyncio.get_running_loop().time()
        if seat.jobs:
            seat.arm(LONG_S, self._look, seat)
        elif len(self._seats) > 1:
            seat.arm(IDLE_S, self._dismiss, seat)
        else:
            seat.disarm()

    def _look(self, seat: Seat, looks: int = LOOKS, before: Activity | None = None) -> None:
        """Declare the process slow once it has had ``AGAIN_AFTER_S`` of a processor between two looks."""
        now = activity(seat.worker.pid)
        if looks and (before is None or (now is not None and now.waited_since(before, AGAIN_AFTER_S))):
            seat.arm(AGAIN_AFTER_S, self._look, seat, looks - 1, before or now or Activity(0.0, runnable=False))
        else:
            self._slow(seat)

    def _slow(self, seat: Seat) -> None:
        """Let the jobs behind the present one go elsewhere, and bound the present one's time."""
        seat.slow = True
        bound_s = clock_bound_s(seat.jobs[0].message)
        seat.arm(bound_s, seat.worker.kill, f"it did not answer within {bound_s:.0f} s")
        # This process will come to them all the same; the first answer counts.
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

    # Called by the workers.

    def _on_answer(self, worker: TextWorker, message: FromText) -> None:
        seat = self._seat_of(worker)
        if seat is None:
            return
        if isinstance(message, TextReady) and not worker.ready:
            worker.ready = True
            self._failed_starts = 0
        elif seat.jobs and seat.jobs[0].answers(message):
            self._answered(seat, seat.jobs.popleft(), message)
        else:  # the process may run a model's own code
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
            if job.of_model:
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
        """Blame ``job`` for the loss of the process that was working on it."""
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
            refused.fail(refused.refusal(refusal))

    def _start_failed(self, because: str) -> None:
        log.error("a text process was lost before it was ready: %s", because)
        self._failed_starts += 1
        if self._failed_starts >= STARTS and not any(seat.worker.ready for seat in self._seats):
            self._failed_starts = 0  # the next request may try again
            self._fail_waiting(lambda: EngineLost(f"no process for texts can be started: {because}"))
        else:  # a process that is ready, if there is one, serves the waiting requests meanwhile
            self._look_again_at(asyncio.get_running_loop().time() + AGAIN_AFTER_S)

    def _fail_waiting(self, error: Callable[[], Exception]) -> None:
        for job in self._waiting.take_all():
            job.fail(error())

    def _seat_of(self, worker: TextWorker) -> Seat | None:
        return next((seat for seat in self._seats if seat.worker is worker), None)


def _error_of(refused: TextRefused) -> RpcError:
    """The refusal as an error; InternalError if it cannot be read, because a model's own code may write it."""
    try:
        return error_from(refused.fault)
    except (KeyError, TypeError, ValueError):
        log.exception("a refusal of a text process cannot be read")
        return InternalError()
