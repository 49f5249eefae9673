"""The step loop: the one thread that decides, computes and tells the front."""

from __future__ import annotations

import logging
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
    QueryModels,
    QueryStats,
    Refused,
    Submit,
    Timing,
    ToEngine,
    ToFront,
    Tokens,
    Unload,
    Unloaded,
)
from ..models.registry import Backend, Registry
from ..observe.metrics import Metrics
from .batch import Event
from .faults import fault_of
from .inbox import Inbox
from .scheduler import Limits, Scheduler
from .sequence import Sequence, tokens_left

log = logging.getLogger(__name__)

COUNTERS = (
    "requests",
    "prompt_tokens",
    "completion_tokens",
    "steps",
    "cancelled",
    "errors",
    "loads",
    "unloads",
    "evictions",
)
HISTOGRAMS = ("queue_s", "first_token_s", "step_s", "prefill_chunk_s", "load_step_s")
Lane = tuple[str, str]  # ("load" or "batch", model)


class Engine:
    """Owns everything behind the link. Single-threaded: no lock, one writer, one user of the device."""

    def __init__(self, link: socket.socket, inbox: Inbox, backend: Backend, limits: Limits, limit_bytes: int) -> None:
        self._link = link
        self._inbox = inbox
        self._backend = backend
        self._scheduler = Scheduler(limits)
        self._metrics = Metrics(COUNTERS, HISTOGRAMS)
        self._models = Registry(
            backend, limit_bytes, self._metrics, self._scheduler.streams, lambda: self._scheduler.reserved_bytes
        )
        self._device_s = 0.0
        self._last_operation_s: float | None = None
        self._batch_size = 0

    def run(self) -> NoReturn:
        while True:
            for message in self._inbox.take(self._idle_s()):
                self._receive(message)
            self._models.expire(time.monotonic())
            self._admit()
            lane = self._scheduler.next_lane(self._due(), time.monotonic())
            if lane is not None:
                self._send(self._operate(lane))
                self._keep_to_budget()

    def _due(self) -> dict[Lane, float]:
        """The lanes that have work, and when each can go on."""
        now = time.monotonic()
        lanes: dict[Lane, float] = {
            ("batch", model): self._models.resident(model).loaded.batch.due_s(now)
            for model in self._scheduler.running_models()
        }
        if (loading := self._models.loading) is not None:
            lanes["load", loading.load.model] = loading.due_s
        return lanes

    def _idle_s(self) -> float:
        """How long nothing can be done unless the front says something."""
        return max(0.0, min([self._models.next_expiry_s, *self._due().values()]) - time.monotonic())

    def _operate(self, lane: Lane) -> list[ToFront]:
        """One bounded operation on the device. Nothing else in this process touches it."""
        kind, model = lane
        began = time.monotonic()
        try:
            if kind == "load":
                assert self._models.loading is not None
                return self._models.advance(self._models.loading, began)
            return self._step(model)
        finally:
            self._last_operation_s = time.monotonic()
            self._device_s += self._last_operation_s - began
            if kind == "load":
                self._metrics.observe("load_step_s", self._last_operation_s - began)

    def _step(self, model: str) -> list[ToFront]:
        began = time.monotonic()
        prefilling = any(sequence.prefilling for sequence in self._scheduler.of_model(model))
        events = self._models.resident(model).loaded.batch.step(began)
        now = time.monotonic()
        self._metrics.count("steps")
        self._metrics.observe("prefill_chunk_s" if prefilling else "step_s", now - began)
        self._batch_size = len(events)
        return [message for event in events for message in self._tell(event, now)]

    def _tell(self, event: Event, now: float) -> list[ToFront]:
        sequence, tokens, reason, fault, _ = event
        messages: list[ToFront] = []
        if tokens:
            messages.append(Tokens(sequence.id, tokens))
            if sequence.first_token_s is None:
                sequence.first_token_s = now
                self._metrics.observe("first_token_s", now - sequence.arrived_s)
            sequence.generated.extend(tokens)
            sequence.known = sequence.total - 1
            self._metrics.count("completion_tokens", len(tokens))
        if reason is not None:
            messages.append(self._retire(sequence, reason, now, fault))
        return messages

    def _retire(self, sequence: Sequence, reason: FinishReason, now: float, fault: Fault | None = None) -> Finished:
        self._scheduler.retire(sequence, now)
        self._models.resident(sequence.model).last_used_s = now
        if reason in ("cancelled", "error"):
            self._metrics.count("cancelled" if reason == "cancelled" else "errors")
        return Finished(sequence.id, reason, sequence.started_s is not None, sequence.timing(now), 0, fault)

    def _admit(self) -> None:
        """Move what has a place, and for which there is memory, from the queue into the batches."""
        while (sequence := self._scheduler.candidate()) is not None:
            now = time.monotonic()
            try:
                self._models.make_room(sequence.need_bytes)
            except OutOfMemory as error:
                if self._scheduler.running:
                    return  # what runs will end and leave its memory
                self._send([self._retire(sequence, "error", now, fault_of(error))])
                continue
            self._scheduler.admit(sequence, now)
            self._models.resident(sequence.model).loaded.batch.submit(sequence)
            self._metrics.observe("queue_s", now - sequence.arrived_s)
            self._metrics.count("prompt_tokens", len(sequence.tokens))

    def _keep_to_budget(self) -> None:
        """Sequences grow. Where there is no more room, idle models go, and then the sequence that came last."""
        while self._models.free_bytes < 0 and (youngest := self._scheduler.youngest()) is not None:
            try:
                self._models.make_room(0)
            except OutOfMemory:
                have_bytes = max(0, youngest.need_bytes + self._models.free_bytes)
                error = OutOfMemory(need_bytes=youngest.need_bytes, have_bytes=have_bytes)
                self._models.resident(youngest.model).loaded.batch.cancel(youngest)
                self._send([self._retire(youngest, "error", time.monotonic(), fault_of(error))])

    def _receive(self, message: ToEngine) -> None:
        now = time.monotonic()
        try:
            match message:
                case Submit():
                    self._send(self._submit(message, now))
                case Cancel():
                    self._send(self._cancel(message, now))
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
            self._metrics.count("errors")
            self._send([_refusal(message, error)])

    def _submit(self, submit: Submit, now: float) -> list[ToFront]:
        resident = self._models.resident(submit.model)
        resident.last_used_s = now
        self._metrics.count("requests")
        card, _, cost = resident.loaded
        limit = tokens_left(submit, card.context_length, card.vocabulary)
        sequence = Sequence(
            submit.seq,
            submit.model,
            submit.tokens,
            submit.emitted,
            submit.sampling,
            submit.stop_tokens,
            limit,
            cost,
            now,
        )
        if limit <= 0:  # it had generated all it may before the restart
            return [Finished(submit.seq, "length", False, sequence.timing(now))]
        self._scheduler.enqueue(sequence)
        return []

    def _cancel(self, cancel: Cancel, now: float) -> list[ToFront]:
        sequence = self._scheduler.find(cancel.seq)
        if sequence is None:  # it has just finished: its answer is on the way
            return []
        if sequence.started_s is not None:
            self._models.resident(sequence.model).loaded.batch.cancel(sequence)
        return [self._retire(sequence, cancel.reason, now)]

    def _unload(self, unload: Unload, now: float) -> list[ToFront]:
        ended: list[ToFront] = []
        if unload.force:
            fault = fault_of(ModelNotLoaded(unload.model))
            sequences = self._scheduler.of_model(unload.model)
            ended += [self._retire(sequence, "error", now, fault) for sequence in sequences]
        freed, refused = self._models.unload(unload.model, unload.force)
        return [*ended, *refused, Unloaded(unload.op, freed)]

    def _stats(self, op: int, now: float) -> EngineStats:
        gauges = {
            "running": float(self._scheduler.running),
            "waiting": float(self._scheduler.waiting),
            "batch_size": float(self._batch_size),
            "reserved_bytes": float(self._scheduler.reserved_bytes),
            "free_bytes": float(self._models.free_bytes),
            "device_s": self._device_s,
            **self._backend.gauges(),
        }
        age = None if self._last_operation_s is None else now - self._last_operation_s
        return EngineStats(op, dict(self._metrics.counters), gauges, self._metrics.histograms, age)

    def _send(self, messages: list[ToFront]) -> None:
        # Blocking is right: the front reads whatever its host does, and a link that is gone ends this process.
        if messages:
            self._link.sendall(b"".join(map(encode, messages)))


def _refusal(message: ToEngine, error: RpcError) -> ToFront:
    if isinstance(message, Submit):
        return Finished(message.seq, "error", False, Timing(), fault=fault_of(error))
    assert isinstance(message, Load | Unload)
    return Refused(message.op, fault_of(error))
