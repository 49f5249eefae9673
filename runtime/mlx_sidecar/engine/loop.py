"""The step loop is the one thread that schedules, uses the device and answers the front."""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn

from ..link.messages import ToFront
from .admission import Admission
from .completion import Completion
from .core.batch import Role, StepFailed, Work
from .core.instrumentation import Instrumentation
from .core.loaded_model import Resident
from .heartbeat import RESTED_S, Heartbeat, StallDeadline
from .inbox import Background, Inbox
from .outbox import Outbox
from .preparation import Preparation
from .requests import Requests
from .resident_models import Backend, ResidentModels
from .scheduling.scheduler import Scheduler

# The next request is served sooner by buffers that the system need not find and clear again (0.4 s for 350 MB); but an
# engine that has not computed for so long should not hold them.
TIDY_AFTER_S = 10.0

Lane = tuple[str, str]  # ("load" or "batch", model)


class Engine:
    """Owns everything behind the link. Single-threaded: no lock, one writer, one user of the device."""

    def __init__(
        self,
        *,
        inbox: Inbox,
        outbox: Outbox,
        backend: Backend,
        scheduler: Scheduler,
        models: ResidentModels,
        preparation: Preparation,
        admission: Admission,
        completion: Completion,
        requests: Requests,
        instrumentation: Instrumentation,
        heartbeat: Heartbeat,
        deadline: StallDeadline,
        clock: Callable[[], float],
    ) -> None:
        self._inbox = inbox
        self._send = outbox.send
        self._backend = backend
        self._scheduler = scheduler
        self._models = models
        self._preparation = preparation
        self._admission = admission
        self._completion = completion
        self.requests = requests
        self._instrumentation = instrumentation
        self._heartbeat = heartbeat
        self._deadline = deadline
        self._clock = clock
        self._tidy_at_s = float("inf")

    def run(self) -> NoReturn:
        while True:
            self.turn()

    def turn(self) -> None:
        """Let the device do one operation at most; take in the front's messages, or wait for one."""
        now = self._clock()
        self._end_late(now)
        self._models.expire(now)
        self._preparation.resume(now)
        self._end_unprepared(now)
        self._admit(now)
        lanes = self._lanes(now)
        due = [lane for lane, due_s in lanes.items() if due_s <= now]
        self._instrumentation.due(due, now)
        if lane := self._scheduler.next_lane(due):
            self._send(self._operate(lane, sharing=len(due)))
            self._keep_to_budget()
        self._heartbeat.note(models=self._models.count)
        for message in self._inbox.take(0.0 if lane else self._idle_s(lanes, now)):
            if isinstance(message, Background):
                self._preparation.told(message.event, self._clock())
                continue
            self.requests.carry_out(message, self._clock())
            self._heartbeat.note(taken=1, models=self._models.count)

    def _lanes(self, now: float) -> dict[Lane, float]:
        """Return the lanes that want the device, and when each can go on."""
        lanes: dict[Lane, float] = {
            ("batch", model): batch.due_s(self._scheduler.running_on(model), now)
            for model, batch in self._models.batches()
        }
        if (loading := self._models.loading) is not None:
            lanes["load", loading.load.model] = loading.due_s
        return {lane: due_s for lane, due_s in lanes.items() if due_s < float("inf")}

    def _idle_s(self, lanes: dict[Lane, float], now: float) -> float:
        """Return the seconds for which there is nothing to do unless a message arrives."""
        self._instrumentation.idle()
        parts = self._scheduler.next_event_s(), self._preparation.next_event_s(), self._models.next_expiry_s
        if self._tidy_at_s <= now:
            self._backend.reclaim()
            self._tidy_at_s = float("inf")
        return max(0.0, min(self._tidy_at_s, *parts, *lanes.values()) - now)

    def _operate(self, lane: Lane, sharing: int) -> list[ToFront]:
        """Run one bounded operation on the device. Nothing else in this process touches it."""
        kind, model = lane
        began = self._clock()
        work: list[Work] = []
        if kind == "load":
            loading = self._models.loading
            assert loading is not None
            self._heartbeat.begin_load(loading.ops, self._deadline.unmeasured_s(loading.estimated_bytes))
            told = self._models.advance(loading, began)
        else:
            work, told = self._step(model, began, sharing)
        ended = self._clock()
        self._heartbeat.end(ended)
        self._tidy_at_s = ended + TIDY_AFTER_S
        self._scheduler.charge(lane, ended - began)
        self._instrumentation.operated(lane, began, ended, work)
        return told

    def _step(self, model: str, began: float, sharing: int) -> tuple[list[Work], list[ToFront]]:
        """Step ``model``: return its work and the messages, which may be about the step before."""
        resident = self._models.resident(model)
        batch = resident.loaded.batch
        work = self._scheduler.plan(model, began, sharing)
        if batch.in_flight and any(given.role is Role.PREFILL for given in work):
            work = []  # the step in flight is read first, or its streams would wait for the prefill as well
        for given in work:
            if given.sequence.times.started_s is None:
                given.sequence.times.started_s = began
        overlapped = batch.in_flight
        rested, resident.stepped_s = began - resident.stepped_s > RESTED_S, began
        expected_s = None if rested else self._scheduler.expected_s(model, work)
        bound_s = self._deadline.step_s(expected_s, resident.loaded.card.memory_bytes)
        self._heartbeat.begin_step(model, [given.sequence.id for given in work], bound_s)
        try:
            events = batch.step(work, began)
        except StepFailed as failure:
            return work, self._completion.failed(model, failure, self._clock())
        now = self._clock()
        self._scheduler.grown(model, work)
        self._account(resident, work, began, now, overlapped=overlapped)
        return work, [message for event in events for message in self._completion.tell(event, now)]

    def _account(self, resident: Resident, work: list[Work], began: float, ended: float, *, overlapped: bool) -> None:
        """Account for the steps that a call has ended, ``work`` unless it is in flight now.

        Steps that overlap are timed from the end of one to the end of the next, because a call that begins one and
        reads another may take much more or less than either: the thread waits for the device in both.
        """
        model, batch = resident.load.model, resident.loaded.batch
        if overlapped:
            took_s, began = batch.read_s - resident.device_since_s, batch.read_s
            self._scheduler.read(model, took_s)
            self._instrumentation.stepped(took_s, prefills=False)
        if batch.in_flight:
            resident.device_since_s = began
            self._scheduler.launched(model, work)
        elif work:
            self._scheduler.account(model, work, ended - began)
            self._instrumentation.stepped(ended - began, prefills=any(given.role is Role.PREFILL for given in work))

    def _end_late(self, now: float) -> None:
        self._send([self._completion.retire(sequence, "deadline", now) for sequence in self._scheduler.expired(now)])

    def _end_unprepared(self, now: float) -> None:
        self._send([self._completion.retire(*ending[:2], now, ending.fault) for ending in self._preparation.endings()])

    def _admit(self, now: float) -> None:
        while (stuck := self._admission.admit(now)) is not None:
            self._send([self._completion.out_of_memory(stuck, self._models.free_bytes, now)])

    def _keep_to_budget(self) -> None:
        now = self._clock()
        while (outgrown := self._admission.keep_to_budget(now)) is not None:
            have_bytes = outgrown.need_bytes + self._models.free_bytes
            self._send([self._completion.out_of_memory(outgrown, have_bytes, now)])
