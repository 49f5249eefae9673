"""The step loop: the one thread that decides, computes and tells the front."""

from __future__ import annotations

import socket
import time
from typing import NoReturn

from mlx_sidecar_protocol.errors import ModelNotLoaded, OutOfMemory, RpcError

from ..link.codec import encode
from ..link.messages import (
    Cancel,
    EngineStats,
    Fault,
    Finished,
    FinishReason,
    Load,
    Loaded,
    Models,
    Pause,
    QueryModels,
    QueryStats,
    Refused,
    Resume,
    Submit,
    Timing,
    ToEngine,
    ToFront,
    Tokens,
    Unload,
    Unloaded,
)
from ..models.registry import Backend, Registry
from ..observe.trace import Trace
from .accounts import Accounts
from .admission import Admission
from .batch import Event, Work
from .faults import fault_of
from .inbox import Inbox
from .scheduler import Limits, Scheduler
from .sequence import Sequence, tokens_left

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
    ) -> None:
        self._link = link
        self._inbox = inbox
        self._backend = backend
        self._scheduler = Scheduler(limits)
        self._accounts = Accounts(trace)
        self._models = Registry(
            backend,
            limit_bytes,
            self._accounts.metrics,
            self._scheduler.streams,
            lambda: self._scheduler.reserved_bytes,
        )
        self._tidy_at_s = float("inf")
        self._admission = Admission(self._scheduler, self._models, self._accounts)

    def run(self) -> NoReturn:
        while True:
            now = time.monotonic()
            self._end_late(now)
            self._models.expire(now)
            self._admit(now)
            lanes = self._lanes(now)
            due = [lane for lane, due_s in lanes.items() if due_s <= now]
            self._accounts.due(due, now)
            if lane := self._scheduler.next_lane(due):
                self._send(self._operate(lane, sharing=len(due)))
                self._keep_to_budget()
            for message in self._inbox.take(0.0 if lane else self._idle_s(lanes, now)):
                self._receive(message)

    def _lanes(self, now: float) -> dict[Lane, float]:
        """Who wants the device, and when each can go on."""
        lanes: dict[Lane, float] = {("batch", model): batch.due_s(now) for model, batch in self._models.batches()}
        if (loading := self._models.loading) is not None:
            lanes["load", loading.load.model] = loading.due_s
        return {lane: due_s for lane, due_s in lanes.items() if due_s < float("inf")}

    def _idle_s(self, lanes: dict[Lane, float], now: float) -> float:
        """How long nothing can be done unless the front says something."""
        self._accounts.idle()
        events = [self._models.next_expiry_s, self._scheduler.next_event_s(), *lanes.values()]
        if self._tidy_at_s <= now:
            self._backend.reclaim()
            self._tidy_at_s = float("inf")
        return max(0.0, min(self._tidy_at_s, *events) - now)

    def _operate(self, lane: Lane, sharing: int) -> list[ToFront]:
        """One bounded operation on the device. Nothing else in this process touches it."""
        kind, model = lane
        began = time.monotonic()
        work: list[Work] = []
        whole = True
        if kind == "load":
            assert self._models.loading is not None
            told = self._models.advance(self._models.loading, began)
        else:
            work, events, whole = self._step(model, began, sharing)
            now = time.monotonic()
            told = [message for event in events for message in self._tell(event, now)]
        ended = time.monotonic()
        self._tidy_at_s = ended + TIDY_AFTER_S
        self._scheduler.charge(lane, ended - began)
        self._accounts.operated(lane, began, ended, work, whole=whole)
        return told

    def _step(self, model: str, began: float, sharing: int) -> tuple[list[Work], list[Event], bool]:
        """What was given to do, what came of it or of the step before, and whether its time is that of a step."""
        batch = self._models.resident(model).loaded.batch
        work = self._scheduler.plan(model, began, sharing)
        if batch.in_flight and any(given.tokens > 1 for given in work):
            work = []  # what is in flight is told first, or its streams would wait for the prefill as well
        for given in work:
            if given.sequence.started_s is None:
                given.sequence.started_s = began
        overlapped = batch.in_flight
        events = batch.step(work, began)
        # A call that only starts a step, or only reads one, says nothing of what ``work`` takes.
        whole = batch.in_flight == overlapped
        if whole:
            self._scheduler.account(model, work, time.monotonic() - began)
        return work, events, whole

    def _tell(self, event: Event, now: float) -> list[ToFront]:
        sequence, tokens, reason, fault, logprobs = event
        messages: list[ToFront] = []
        if tokens:
            messages.append(Tokens(sequence.id, tokens, logprobs))
            self._accounts.generated(sequence, len(tokens), now)
            if sequence.first_token_s is None:
                sequence.first_token_s = now
            sequence.last_token_s = now
        if reason is not None:
            messages.append(self._retire(sequence, reason, now, fault))
        return messages

    def _retire(self, sequence: Sequence, reason: FinishReason, now: float, fault: Fault | None = None) -> Finished:
        """The end of ``sequence``, wherever it is. What a prefill that was broken off has done is kept."""
        resident = self._models.resident(sequence.model)
        broken_off = reason != "error" and sequence.first_token_s is None
        resident.loaded.batch.close(sequence, keep=broken_off and self._models.free_bytes >= sequence.need_bytes)
        resident.last_used_s = now
        self._scheduler.retire(sequence, now)
        self._accounts.ended(sequence, reason, now)
        started = sequence.started_s is not None
        return Finished(sequence.id, reason, started, sequence.timing(now), sequence.cached_tokens, fault)

    def _end_late(self, now: float) -> None:
        self._send([self._retire(sequence, "deadline", now) for sequence in self._scheduler.expired(now)])

    def _admit(self, now: float) -> None:
        while (stuck := self._admission.admit(now)) is not None:
            self._end_for_memory(stuck, self._models.free_bytes, now)

    def _keep_to_budget(self) -> None:
        now = time.monotonic()
        while (outgrown := self._admission.keep_to_budget(now)) is not None:
            self._end_for_memory(outgrown, outgrown.need_bytes + self._models.free_bytes, now)

    def _end_for_memory(self, sequence: Sequence, have_bytes: int, now: float) -> None:
        error = OutOfMemory(need_bytes=sequence.need_bytes, have_bytes=max(0, have_bytes))
        self._send([self._retire(sequence, "error", now, fault_of(error))])

    def _receive(self, message: ToEngine) -> None:
        now = time.monotonic()
        try:
            match message:
                case Submit():
                    self._send(self._submit(message, now))
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
                    self._send([self._stats(message.op, now)])
        except RpcError as error:
            self._accounts.metrics.count("refused")
            self._send([_refusal(message, error)])

    def _submit(self, submit: Submit, now: float) -> list[ToFront]:
        resident = self._models.resident(submit.model)
        resident.last_used_s = now
        self._accounts.metrics.count("requests")
        card, _, cost = resident.loaded
        sequence = Sequence(
            id=submit.seq,
            model=submit.model,
            tokens=submit.tokens,
            emitted=submit.emitted,
            sampling=submit.sampling,
            stop_tokens=submit.stop_tokens,
            limit=tokens_left(submit, card.context_length, card.vocabulary),
            cost=cost,
            arrived_s=now,
            priority=submit.priority,
            deadline_s=float("inf") if submit.deadline_s is None else now + submit.deadline_s,
        )
        if sequence.limit <= 0:  # it had generated all it may before the restart
            return [Finished(submit.seq, "length", False, sequence.timing(now))]
        self._admission.check(sequence)
        self._scheduler.enqueue(sequence, now)
        return []

    def _cancel(self, cancel: Cancel, now: float) -> list[ToFront]:
        sequence = self._scheduler.find(cancel.seq)
        if sequence is None:  # it has just finished: its answer is on the way
            return []
        return [self._retire(sequence, cancel.reason, now)]

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
            ended += [self._retire(sequence, "error", now, fault) for sequence in sequences]
        freed, refused = self._models.unload(unload.model, unload.force)
        return [*ended, *refused, Unloaded(unload.op, freed)]

    def _stats(self, op: int, now: float) -> EngineStats:
        accounts, scheduler = self._accounts, self._scheduler
        gauges = {
            "running": scheduler.running,
            "waiting": scheduler.waiting,
            "parked": scheduler.parked,
            "batch_rows": accounts.batch_rows,
            "reserved_bytes": scheduler.reserved_bytes,
            "kept_bytes": self._models.kept_bytes,
            "free_bytes": self._models.free_bytes,
            "device_s": accounts.device_s,
            **self._backend.gauges(),
        }
        last = accounts.last_operation_s
        return EngineStats(
            op,
            dict(accounts.metrics.counters),
            {name: float(value) for name, value in gauges.items()},
            accounts.metrics.histograms,
            None if last is None else now - last,
        )

    def _send(self, messages: list[ToFront]) -> None:
        # Blocking is right: the front reads whatever its host does, and a link that is gone ends this process.
        if messages:
            self._link.sendall(b"".join(map(encode, messages)))


def _refusal(message: ToEngine, error: RpcError) -> ToFront:
    if isinstance(message, Submit):
        return Finished(message.seq, "error", False, Timing(), fault=fault_of(error))
    assert isinstance(message, Load | Unload)
    return Refused(message.op, fault_of(error))
