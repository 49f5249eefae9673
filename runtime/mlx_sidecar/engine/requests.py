"""The step loop carries out the front's requests here, between two operations of the device."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from mlx_sidecar_protocol.errors import (
    InternalError,
    InvalidParams,
    ModelNotLoaded,
    RpcError,
    UnsupportedParameter,
)

from ..link.adapter_messages import LoadAdapter, QueryAdapters, UnloadAdapter
from ..link.cache_messages import ClearCache, ExportCache, ImportCache, QueryCache
from ..link.codec import Unreadable
from ..link.control_messages import Capability, Load, Loaded, Models, QueryModels, QueryStats, Unload, Unloaded
from ..link.faults import fault_of
from ..link.messages import (
    Cancel,
    Embed,
    Finished,
    Generate,
    Goal,
    Pause,
    Prefill,
    Resume,
    Score,
    Submit,
    ToEngine,
    Vocabulary,
)
from .adapters.adapters import Adapters
from .admission import Admission
from .completion import Completion
from .core.asked import asked_by, speculation_of, tokens_left, without_draft
from .core.instrumentation import Instrumentation
from .core.loaded_model import LoadedModel
from .core.memory_cost import SequenceCost
from .core.sequence import Sequence
from .grammar.grammars import Grammars
from .heartbeat import Heartbeat, StallDeadline
from .outbox import Outbox
from .prefix.cache_operations import CacheOperations
from .preparation import Preparation
from .refusals import refusal
from .resident_models import ResidentModels
from .scheduling.scheduler import Scheduler
from .stats import Stats

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Requests:
    """Carries out one message at a time. A request that fails is answered with its error, and no other is affected."""

    outbox: Outbox
    scheduler: Scheduler
    models: ResidentModels
    preparation: Preparation
    admission: Admission
    completion: Completion
    operations: CacheOperations
    grammars: Grammars
    adapters: Adapters
    stats: Stats
    instrumentation: Instrumentation
    heartbeat: Heartbeat
    deadline: StallDeadline
    clock: Callable[[], float]

    def carry_out(self, message: ToEngine | Unreadable, now: float) -> None:
        """Do what ``message`` asks, and answer it. Raises ``ConnectionError`` if the front is gone."""
        try:
            self._carry_out(message, now)
        except RpcError as error:
            self.instrumentation.metrics.count("refused")
            self.outbox.send(refusal(message, error))
        except ConnectionError:
            raise
        except Exception:  # a bug that one request brings out is no end of the others
            log.exception("a %s could not be carried out", type(message).__name__)
            self.outbox.send(refusal(message, InternalError()))

    def _carry_out(self, message: ToEngine | Unreadable, now: float) -> None:
        match message:
            case Unreadable():
                self._forsake(message, now)
            case Submit():
                self._take_in(message, now)
            case Vocabulary():
                self.grammars.learn(message)
            case Cancel():
                self._cancel(message, now)
            case Pause() | Resume():
                self._flow(message, now)
            case Load():
                card = self.models.request(message, now)
                self.outbox.send([] if card is None else [Loaded(message.op, card, 0.0)])
            case Unload():
                self._unload(message, now)
            case LoadAdapter():
                self.adapters.load(message)
            case UnloadAdapter():
                self.adapters.unload(message.op, message.model, message.adapter)
            case QueryAdapters():
                self.adapters.tell(message)
            case QueryModels():
                self.outbox.send([Models(message.op, self.models.cards(now))])
            case QueryStats():
                self.outbox.send([self.stats.engine(message.op, now)])
            case QueryCache() | ClearCache() | ExportCache() | ImportCache():
                self.operations.ask(message)

    def _forsake(self, message: Unreadable, now: float) -> None:
        """End the sequence that ``message`` is about, if there is one, with an error."""
        log.error("a %s of the front cannot be read", message.type)
        if message.seq is not None and (sequence := self.scheduler.find(message.seq)) is not None:
            self.completion.retire(sequence, "error", now)
        self.outbox.send(refusal(message, InternalError()))

    def _take_in(self, submit: Submit, now: float) -> None:
        self.heartbeat.begin_message(submit.seq, self.deadline.stall_after_s)
        try:
            self._submit(submit, now)
        except RpcError:
            raise
        except Exception as error:
            log.exception("sequence %d cannot be taken in", submit.seq)
            if (sequence := self.scheduler.find(submit.seq)) is not None:
                self.completion.forget(sequence, now)
            raise InternalError() from error
        finally:
            self.heartbeat.end(self.clock())

    def _submit(self, submit: Submit, now: float) -> None:
        resident = self.models.resident(submit.model)
        resident.last_used_s = now
        submit = self._without_lost_draft(submit)
        self.instrumentation.metrics.count("requests")
        card = resident.loaded.card
        if (able := _needed(submit.goal)) is not None and (because := card.lacks(able)):
            raise UnsupportedParameter("model", because)
        cost = self._cost(submit, resident.loaded)
        limit = tokens_left(submit, card.context_length, card.vocabulary)
        sequence = Sequence(asked_by(submit, limit, cost, now))
        if sequence.limit <= 0 and sequence.asked.constraint is None:  # it had generated all it may before the restart
            self.outbox.send([Finished(submit.seq, "length", started=False, timing=sequence.timing(now))])
            return
        self.admission.check(sequence)
        self.preparation.check(sequence)
        self.scheduler.enqueue(sequence, now)
        self.preparation.arrived(sequence, now)

    def _without_lost_draft(self, submit: Submit) -> Submit:
        """Return ``submit``; without its draft model if an engine had accepted it with that one, which is gone now."""
        wanted = speculation_of(submit)
        if wanted is None or wanted.draft is None or not submit.again:
            return submit
        try:
            self.models.resident(wanted.draft)
        except ModelNotLoaded:
            return without_draft(submit)
        return submit

    def _cost(self, submit: Submit, loaded: LoadedModel) -> SequenceCost:
        """Return the cost of the sequence of ``submit`` on its model, and on the one that makes proposals for it."""
        wanted = speculation_of(submit)
        if wanted is None:
            return loaded.cost
        if because := loaded.card.lacks("speculation"):
            raise UnsupportedParameter("speculation", because)
        if wanted.draft is None:
            return loaded.cost
        draft = self.models.resident(wanted.draft).loaded
        if because := draft.card.lacks("draft"):
            raise UnsupportedParameter("speculation.draft", because)
        if draft.card.vocabulary != loaded.card.vocabulary:
            raise InvalidParams.field("speculation.draft", f"{wanted.draft!r} has another vocabulary")
        return SequenceCost.of([*loaded.cost.layers, *draft.cost.layers])

    def _cancel(self, cancel: Cancel, now: float) -> None:
        sequence = self.scheduler.find(cancel.seq)
        if sequence is not None:  # else it has just finished: its answer is on the way
            self.outbox.send([self.completion.retire(sequence, cancel.reason, now)])

    def _flow(self, message: Pause | Resume, now: float) -> None:
        sequence = self.scheduler.find(message.seq)
        if sequence is None:  # it has just finished
            return
        if isinstance(message, Pause):
            self.scheduler.pause(sequence, now)
        else:
            self.scheduler.resume(sequence, now)

    def _unload(self, unload: Unload, now: float) -> None:
        if unload.force:
            fault = fault_of(ModelNotLoaded(unload.model))
            sequences = self.scheduler.of_model(unload.model)
            self.outbox.send([self.completion.retire(sequence, "error", now, fault) for sequence in sequences])
        freed, refused = self.models.unload(unload.model, unload.force)
        self.outbox.send([*refused, Unloaded(unload.op, freed)])


def _needed(goal: Goal) -> Capability | None:
    """The capability that a model needs for ``goal``; pins see to that of ``Prefill``."""
    match goal:
        case Generate():
            return "generate"
        case Embed():
            return "embed"
        case Score():
            return "rerank"
        case Prefill():
            return None
