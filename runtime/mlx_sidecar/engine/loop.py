"""The step loop: the one thread that decides, computes and tells the front."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Callable
from typing import NoReturn

from mlx_sidecar_protocol.errors import InternalError, ModelNotLoaded, RpcError

from ..link.cache_messages import ClearCache, ExportCache, ImportCache, QueryCache
from ..link.codec import Unreadable
from ..link.control_messages import Load, Loaded, Models, QueryModels, QueryStats, Unload, Unloaded
from ..link.faults import fault_of
from ..link.heartbeat_page import HeartbeatPage
from ..link.messages import Cancel, Evicted, Finished, Pause, Resume, Submit, ToEngine, ToFront
from ..observe.trace import Trace
from .admission import Admission
from .cache.disk.events import DiskEvent
from .cache.prefix_cache import PrefixCache
from .completion import Completion
from .core.batch import StepFailed, Work
from .core.instrumentation import Instrumentation
from .core.sequence import sequence_of, tokens_left
from .heartbeat import RESTED_S, Heartbeat, StallDeadline
from .inbox import Inbox
from .prefix.prefix_waits import PrefixWaits
from .refusals import encoded, refusal
from .resident_models import Backend, ResidentModels
from .scheduling.scheduler import Limits, Scheduler
from .stats import engine_figures

log = logging.getLogger(__name__)

# The next request is served sooner by buffers that the system need not find and clear again (0.4 s for 350 MB); but who
# has not computed for so long should not hold them.
TIDY_AFTER_S = 10.0

Lane = tuple[str, str]  # ("load" or "batch", model)


class Engine:
    """Owns everything behind the link. Single-threaded: no lock, one writer, one user of the device."""

    def __init__(
        self,
        link: socket.socket,
        inbox: Inbox,
        backend: Backend,
        limits: Limits,
        limit_bytes: int,
        trace: Trace | None = None,
        *,
        prefix_cache: PrefixCache | None = None,
        page: HeartbeatPage | None = None,
        stall_after_s: float = StallDeadline.stall_after_s,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``page`` is what the front reads of us, by default nobody's; it is told bounds of ``stall_after_s`` at least.
        ``clock`` gives seconds."""
        self._link = link
        self._inbox = inbox
        self._backend = backend
        self._clock = clock
        self._scheduler = Scheduler(limits)
        self._instrumentation = Instrumentation(trace)
        self._models = ResidentModels(
            backend,
            limit_bytes,
            self._instrumentation.metrics,
            self._scheduler.streams,
            lambda: self._scheduler.reserved_bytes,
            lambda model: self._send([Evicted(model)]),
            prefix_cache,
        )
        self._tidy_at_s = float("inf")
        self._prefix_waits = PrefixWaits(self._scheduler, self._models, prefix_cache)
        self._admission = Admission(self._scheduler, self._models, self._instrumentation, self._prefix_waits)
        self._completion = Completion(self._scheduler, self._models, self._admission, self._instrumentation)
        self._deadline = StallDeadline(stall_after_s)
        self._heartbeat = Heartbeat(page or HeartbeatPage.create(), self._models.in_flight)

    def run(self) -> NoReturn:
        while True:
            self.turn()

    def turn(self) -> None:
        """Decide, let the device do one operation at most, and take in what the front has said, or wait for it."""
        now = self._clock()
        self._end_late(now)
        self._models.expire(now)
        self._send(self._prefix_waits.serve(now))
        self._admit(now)
        lanes = self._lanes(now)
        due = [lane for lane, due_s in lanes.items() if due_s <= now]
        self._instrumentation.due(due, now)
        if lane := self._scheduler.next_lane(due):
            self._send(self._operate(lane, sharing=len(due)))
            self._keep_to_budget()
        self._heartbeat.note(models=self._models.count)
        for message in self._inbox.take(0.0 if lane else self._idle_s(lanes, now)):
            if isinstance(message, DiskEvent):
                self._send(self._prefix_waits.told(message, self._clock()))
                continue
            self._receive(message)
            self._heartbeat.note(taken=1, models=self._models.count)

    def _lanes(self, now: float) -> dict[Lane, float]:
        """Who wants the device, and when each can go on."""
        lanes: dict[Lane, float] = {("batch", model): batch.due_s(now) for model, batch in self._models.batches()}
        if (loading := self._models.loading) is not None:
            lanes["load", loading.load.model] = loading.due_s
        return {lane: due_s for lane, due_s in lanes.items() if due_s < float("inf")}

    def _idle_s(self, lanes: dict[Lane, float], now: float) -> float:
        """How long nothing can be done unless the front says something."""
        self._instrumentation.idle()
        reuse_s = self._prefix_waits.next_event_s()
        events = [self._models.next_expiry_s, self._scheduler.next_event_s(), reuse_s, *lanes.values()]
        if self._tidy_at_s <= now:
            self._backend.reclaim()
            self._tidy_at_s = float("inf")
        return max(0.0, min(self._tidy_at_s, *events) - now)

    def _operate(self, lane: Lane, sharing: int) -> list[ToFront]:
        """One bounded operation on the device. Nothing else in this process touches it."""
        kind, model = lane
        began = self._clock()
        work: list[Work] = []
        whole = True
        if kind == "load":
            loading = self._models.loading
            assert loading is not None
            self._heartbeat.begin_load(loading.ops, self._deadline.unmeasured_s(loading.estimated_bytes))
            told = self._models.advance(loading, began)
        else:
            work, told, whole = self._step(model, began, sharing)
        ended = self._clock()
        self._heartbeat.end(ended)
        self._tidy_at_s = ended + TIDY_AFTER_S
        self._scheduler.charge(lane, ended - began)
        self._instrumentation.operated(lane, began, ended, work, whole=whole)
        return told

    def _step(self, model: str, began: float, sharing: int) -> tuple[list[Work], list[ToFront], bool]:
        """What was given to do, what there is to tell of this or of the step before, and whether its time is that of a
        step."""
        resident = self._models.resident(model)
        batch = resident.loaded.batch
        work = self._scheduler.plan(model, began, sharing)
        if batch.in_flight and any(given.tokens > 1 for given in work):
            work = []  # what is in flight is told first, or its streams would wait for the prefill as well
        for given in work:
            if given.sequence.started_s is None:
                given.sequence.started_s = began
        overlapped = batch.in_flight
        rested, resident.stepped_s = began - resident.stepped_s > RESTED_S, began
        expected_s = None if rested else self._scheduler.expected_s(model, work)
        bound_s = self._deadline.step_s(expected_s, resident.loaded.card.memory_bytes)
        self._heartbeat.begin_step(model, [given.sequence.id for given in work], bound_s)
        try:
            events = batch.step(work, began)
        except StepFailed as failure:
            return work, self._completion.failed(model, failure, self._clock()), False
        now = self._clock()
        # A call that only starts a step, or only reads one, says nothing of what ``work`` takes.
        whole = batch.in_flight == overlapped
        if whole:
            self._scheduler.account(model, work, now - began)
        return work, [message for event in events for message in self._completion.tell(event, now)], whole

    def _end_late(self, now: float) -> None:
        self._send([self._completion.retire(sequence, "deadline", now) for sequence in self._scheduler.expired(now)])

    def _admit(self, now: float) -> None:
        while (stuck := self._admission.admit(now)) is not None:
            self._send([self._completion.out_of_memory(stuck, self._models.free_bytes, now)])

    def _keep_to_budget(self) -> None:
        now = self._clock()
        while (outgrown := self._admission.keep_to_budget(now)) is not None:
            have_bytes = outgrown.need_bytes + self._models.free_bytes
            self._send([self._completion.out_of_memory(outgrown, have_bytes, now)])

    def _receive(self, message: ToEngine | Unreadable) -> None:
        now = self._clock()
        try:
            match message:
                case Unreadable():
                    log.error("a %s of the front cannot be read", message.type)
                    self._forsake(message.seq, now)
                    self._send(refusal(message, InternalError()))
                case Submit():
                    self._send(self._take_in(message, now))
                case Cancel():
                    self._send(self._cancel(message, now))
                case Pause() | Resume():
                    self._flow(message, now)
                case Load():
                    card = self._models.request(message, now)
                    self._send([] if card is None else [Loaded(message.op, card, 0.0)])
                case Unload():
                    self._send(self._unload(message, now))
                case QueryModels():
                    self._send([Models(message.op, self._models.cards(now))])
                case QueryStats():
                    gauges = self._backend.gauges()
                    self._send(
                        [engine_figures(message.op, now, self._instrumentation, self._scheduler, self._models, gauges)]
                    )
                case QueryCache() | ClearCache() | ExportCache() | ImportCache():
                    self._send(self._prefix_waits.operations.ask(message))
        except RpcError as error:
            self._instrumentation.metrics.count("refused")
            self._send(refusal(message, error))
        except ConnectionError:
            raise  # the front is gone
        except Exception:  # a bug that one request brings out is no end of the others
            log.exception("a %s could not be carried out", type(message).__name__)
            self._send(refusal(message, InternalError()))

    def _take_in(self, submit: Submit, now: float) -> list[ToFront]:
        self._heartbeat.begin_message(submit.seq, self._deadline.stall_after_s)
        try:
            return self._submit(submit, now)
        except RpcError:
            raise
        except Exception as error:  # a bug that one request brings out is no end of the others
            log.exception("sequence %d cannot be taken in", submit.seq)
            if (sequence := self._scheduler.find(submit.seq)) is not None:
                self._scheduler.retire(sequence, now)
            raise InternalError() from error
        finally:
            self._heartbeat.end(self._clock())

    def _submit(self, submit: Submit, now: float) -> list[ToFront]:
        resident = self._models.resident(submit.model)
        resident.last_used_s = now
        self._instrumentation.metrics.count("requests")
        card, cost = resident.loaded.card, resident.loaded.cost
        limit = tokens_left(submit, card.context_length, card.vocabulary)
        sequence = sequence_of(submit, limit, cost, now)
        if sequence.limit <= 0:  # it had generated all it may before the restart
            return [Finished(submit.seq, "length", False, sequence.timing(now))]
        self._admission.check(sequence)
        self._prefix_waits.check(sequence)
        self._scheduler.enqueue(sequence, now)
        self._prefix_waits.arrived(sequence, now)
        return []

    def _cancel(self, cancel: Cancel, now: float) -> list[ToFront]:
        sequence = self._scheduler.find(cancel.seq)
        if sequence is None:  # it has just finished: its answer is on the way
            return []
        return [self._completion.retire(sequence, cancel.reason, now)]

    def _flow(self, message: Pause | Resume, now: float) -> None:
        sequence = self._scheduler.find(message.seq)
        if sequence is None:  # it has just finished
            return
        if isinstance(message, Pause):
            self._scheduler.pause(sequence, now)
        else:
            self._scheduler.resume(sequence, now)

    def _unload(self, unload: Unload, now: float) -> list[ToFront]:
        ended: list[ToFront] = []
        if unload.force:
            fault = fault_of(ModelNotLoaded(unload.model))
            sequences = self._scheduler.of_model(unload.model)
            ended += [self._completion.retire(sequence, "error", now, fault) for sequence in sequences]
        freed, refused = self._models.unload(unload.model, unload.force)
        return [*ended, *refused, Unloaded(unload.op, freed)]

    def _send(self, messages: list[ToFront]) -> None:
        # Blocking is right: the front reads whatever its host does, and a link that is gone ends this process.
        if messages:
            self._link.sendall(b"".join(map(encoded, messages)))

    def _forsake(self, seq: int | None, now: float) -> None:
        """Take sequence ``seq`` away, if there is one: its stream is told of an error."""
        if seq is not None and (sequence := self._scheduler.find(seq)) is not None:
            self._completion.retire(sequence, "error", now)
