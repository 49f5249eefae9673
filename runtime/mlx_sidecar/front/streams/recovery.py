"""Keeps every open stream alive on whatever engine there is.

A stream is *placed* while an engine has it. When an engine is lost its streams are not: their hosts are told, the
models are loaded again on the next engine, and each is placed there as its prompt and the tokens that came of it so
far. Who may run with whom after deaths, and who is to blame, ``poison_search`` decides.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Literal, Protocol

from mlx_sidecar_protocol.errors import InternalError, ModelInUse, ModelNotLoaded, PoisonRequest, RpcError
from mlx_sidecar_protocol.generate import FinishReason

from ...containment import CONTROL_FLOW, LEAVING, contained
from ...link.faults import error_from
from ...link.messages import RANKS, Cancel, Dropped, Finished, Pause, Resume, Submit, Tokens
from .journal import Journal
from .poison_search import PoisonSearch
from .registry import Streams
from .stream import Ending, Stream

GRACE_S = 1.0  # for the engine to end a sequence when told to; then a device operation is not coming back
_MOST_EVICTIONS = 3  # of a model under a stream that has begun

log = logging.getLogger(__name__)


class Engine(Protocol):
    """The supervisor, as far as streams need it."""

    @property
    def takes_work(self) -> bool: ...
    def submit(self, message: Submit) -> None: ...
    def post(self, message: Cancel | Pause | Resume) -> None: ...
    def restored(self) -> None: ...
    def wake(self, *, urgent: bool = False) -> None: ...


class Models(Protocol):
    """The catalog, as far as streams need it."""

    def holds(self, name: str) -> bool: ...
    def is_leaving(self, name: str) -> bool: ...
    def engine_lost(self) -> list[str]: ...
    def evicted(self, name: str) -> None: ...
    async def restore(self, name: str) -> None: ...


class Recovery:
    """The supervisor's client: lives on the event loop, and never waits there. ``attach`` before anything else.

    The engine has ``grace_s`` to end a sequence when it is told to; ``counters`` are for ``stats``.
    """

    def __init__(self, streams: Streams, journal: Journal, grace_s: float = GRACE_S) -> None:
        self._streams = streams
        self._journal = journal
        self._grace_s = grace_s
        self._poison_search = PoisonSearch()
        self._fetching: dict[str, asyncio.Task[None]] = {}
        self._evictions: Counter[int] = Counter()
        self.counters: Counter[str] = Counter(interruptions=0, poisoned=0)
        self._engine: Engine
        self._models: Models

    def attach(self, engine: Engine, models: Models) -> None:
        self._engine = engine
        self._models = models

    @property
    def isolating(self) -> bool:
        """Whether streams wait because it is being found out which one ends the engine."""
        return self._poison_search.active

    @property
    def held(self) -> int:
        """Streams that no engine has at the moment."""
        return sum(not stream.placed for stream in self._streams.running)

    # What becomes of a stream.

    @contextmanager
    def carrying(self, stream: Stream) -> Iterator[None]:
        """Keep ``stream`` open, and with an engine, while the block runs.

        Raises OutOfMemory if the journal is full, EngineLost or EngineStalled if engines have been given up.
        """
        self._engine.wake()
        with self._journal.holding(stream.entry):
            self._streams.open(stream)
            try:
                self._place(stream)
                yield
            finally:
                self._streams.close(stream)
                self._make_way(stream)

    def end(self, stream: Stream, reason: Literal["cancelled", "deadline"]) -> None:
        """Have ``stream`` end: by its engine, which knows how far it is, or without one that has it or reacts."""
        if stream.ended.done() or stream.leaving is not None:
            return
        stream.leaving = reason
        if not stream.placed:
            self._finish(stream, self._ending(stream, reason))
            return
        self.post(Cancel(stream.seq, reason))

    def refuse(self, stream: Stream, error: RpcError) -> None:
        """End ``stream`` with ``error`` unless something has come of it already."""
        if stream.ended.done() or stream.started:
            return
        if stream.placed:
            self.post(Cancel(stream.seq))
        self._finish(stream, self._ending(stream, "error", error))

    def unloading(self, model: str, *, force: bool) -> None:
        """``model`` is about to go: streams that no engine has are in its way, or end with ``force``.

        Raises ModelInUse.
        """
        using = [stream for stream in self._streams.running if stream.entry.model == model]
        held = [stream for stream in using if not stream.placed]
        if held and not force:
            raise ModelInUse(model, len(using))
        for stream in held:
            self._finish(stream, self._ending(stream, "error", ModelNotLoaded(model)))

    def post(self, message: Cancel | Pause | Resume) -> None:
        """What becomes of a sequence, to the engine if there is one. A cancel takes effect whether it reacts or not."""
        self._engine.post(message)
        if isinstance(message, Cancel):
            asyncio.get_running_loop().call_later(self._grace_s, self._give_up, message.seq)
        elif isinstance(message, Pause) and self._poison_search.pause(message.seq):
            self._place_all()

    # What the supervisor says.

    # A fault of ours in one of these ends the streams it is about, as internal_error: they would wait for ever.

    def on_tokens(self, message: Tokens) -> None:
        try:
            self._streams.on_tokens(message)
            if self._poison_search.progressed(message.seq):
                self._place_all()
        except LEAVING:
            raise
        except BaseException:
            log.exception("tokens of a stream could not be taken in")
            self._fail([message.seq])

    def on_finished(self, message: Finished) -> None:
        stream = self._streams.get(message.seq)
        if stream is None or not self._streams.end_of_text(stream, partial(self.on_finished, message)):
            return
        try:
            self._finished(stream, message)
        except LEAVING:
            raise
        except BaseException:
            log.exception("the end of a stream could not be taken in")
            self._fail([message.seq])

    def _finished(self, stream: Stream, message: Finished) -> None:
        error = None if message.fault is None else error_from(message.fault)
        if isinstance(error, ModelNotLoaded) and not message.started:
            if (reason := self._leaves_as(stream)) is not None:  # a cancel behind it found nothing to end
                self._finish(stream, self._ending(stream, reason))
                return
            if self._comes_back(stream):
                return
        # What an earlier engine did is not in the figures of this one.
        timing = stream.timing if stream.interruptions else message.timing
        started = message.started or stream.started
        ending = Ending(
            message.reason,
            started,
            timing,
            message.cached_tokens,
            error,
            message.stop_token,
            message.cached_disk,
            message.uncacheable,
            message.pinned,
            message.nearest,
        )
        self._finish(stream, ending)

    def on_dropped(self, message: Dropped) -> None:
        """A step failed: the engine lives, what it had of these sequences does not."""
        dropped = [stream for seq in message.seqs if (stream := self._streams.get(seq)) is not None]
        had = len(message.running)
        try:
            self._interrupted(dropped, message.running, f"a step failed: {message.fault.message}", had=had)
        except LEAVING:
            raise
        except BaseException:
            log.exception("that a step failed could not be taken in")
            self._fail(message.seqs)
        self._place_all()

    def on_evicted(self, model: str) -> None:
        self._models.evicted(model)

    def on_engine_lost(self, running: frozenset[int], because: str, *, forced: bool) -> bool:
        placed = [stream for stream in self._streams.running if stream.placed]
        try:
            return self._lost(placed, running, because, forced=forced)
        except LEAVING:
            raise
        except BaseException:
            log.exception("the loss of the engine could not be taken in")
            self._fail([stream.seq for stream in placed])
            return False

    def _lost(self, placed: list[Stream], running: frozenset[int], because: str, *, forced: bool) -> bool:
        needed = {stream.entry.model for stream in placed}
        for model in sorted(self._models.engine_lost(), key=lambda model: model not in needed):
            self._fetch(model)
        # Whoever else it had may be the cause: the device works ahead, and the page names what it was given last.
        had = len({stream.seq for stream in placed} | running)
        return self._interrupted(placed, running, because, had=had, forced=forced)

    def on_engine_ready(self) -> None:
        """A new engine takes work. What was loaded is being loaded there, the models of waiting streams first."""
        if not self._fetching:
            self._engine.restored()
        self._place_all()

    def on_given_up(self, error: RpcError) -> None:
        for stream in self._streams.running:
            with contained(log, "the end of a stream could not be told"):
                self._finish(stream, self._ending(stream, "error", error))

    # How it is done.

    def _interrupted(
        self, streams: list[Stream], running: Collection[int], because: str, *, had: int, forced: bool = False
    ) -> bool:
        """``streams`` have lost what the engine had of them while it worked on ``running``.

        ``had`` in all may have caused it: ``running``, and whoever cannot be named any more or was about to run.
        Returns whether that told us anything of who is to blame.
        """
        for stream in streams:
            stream.placed = False
            if stream.late is not None:
                stream.late.discard()
            if (reason := self._leaves_as(stream)) is not None:
                # Nobody is placed in its stead before it is known who may be.
                self._streams.finish(stream, self._ending(stream, reason))
                self._forget(stream)
        there = [seq for seq in running if self._streams.get(seq) is not None]
        verdict = self._poison_search.died(there, beside=had - len(there), forced=forced)
        for seq in verdict.poisoned:
            log.warning("a request is not tried again, for engines were lost with it: %s", because)
            self.counters["poisoned"] += 1
            if (guilty := self._streams.get(seq)) is not None:
                self._finish(guilty, self._ending(guilty, "error", PoisonRequest(because)))
        for stream in streams:
            if not stream.ended.done():
                self.counters["interruptions"] += 1
                self._streams.interrupt(stream, because)
        return verdict.narrowed

    def _place_all(self) -> None:
        """Give the engine all that it may have, the most urgent first."""
        waiting = [stream for stream in self._streams.running if not stream.placed]
        for stream in sorted(waiting, key=lambda stream: (RANKS[stream.entry.priority], stream.opened_at)):
            try:
                self._place(stream)
            except LEAVING:
                raise
            except BaseException:  # e.g. it cannot be encoded: no reason for the others to wait
                log.exception("a stream could not be given to the engine")
                self._finish(stream, self._ending(stream, "error", InternalError()))

    def _place(self, stream: Stream) -> None:
        if stream.placed or not self._engine.takes_work or not self._poison_search.admits(stream.seq):
            return
        model = stream.entry.model
        if not self._models.holds(model):
            self._fetch(model)
            return
        self._engine.submit(stream.entry.submission(stream.transcript.tokens, again=stream.interruptions > 0))
        stream.placed = True
        if stream.paused:
            self.post(Pause(stream.seq))

    def _fetch(self, model: str) -> None:
        """Have ``model`` loaded, and then place the streams that wait for it."""
        if model not in self._fetching:
            self._fetching[model] = asyncio.get_running_loop().create_task(self._bring_back(model))

    async def _bring_back(self, model: str) -> None:
        try:
            await self._models.restore(model)
        except RpcError as error:
            log.warning("%s is not loaded again: %s", model, error)
            self._not_coming_back(model, error)
        except CONTROL_FLOW:
            raise
        except BaseException:
            log.exception("%s is not loaded again", model)  # a bug of ours; nobody is to wait for it
            self._not_coming_back(model, InternalError())
        finally:
            del self._fetching[model]
        self._engine.restored()
        self._place_all()

    def _not_coming_back(self, model: str, error: RpcError) -> None:
        for stream in self._streams.running:
            if stream.entry.model == model and not stream.placed:
                self._finish(stream, self._ending(stream, "error", error))

    def _comes_back(self, stream: Stream) -> bool:
        """The model of ``stream`` went before the stream came to it: it is loaded once more, not without end."""
        model = stream.entry.model
        self._models.evicted(model)
        self._evictions[stream.seq] += 1
        too_often = self._evictions[stream.seq] > _MOST_EVICTIONS
        if too_often or not stream.interruptions or self._models.is_leaving(model):
            return False
        stream.placed = False
        self._place(stream)
        return True

    def _fail(self, seqs: Collection[int]) -> None:
        """End those of ``seqs`` that have not ended: a fault of ours has left them where nothing goes on."""
        for seq in seqs:
            if (stream := self._streams.get(seq)) is not None:
                with contained(log, "a stream could not be ended"):
                    self._engine.post(Cancel(seq))
                    self._finish(stream, self._ending(stream, "error", InternalError()))

    def _give_up(self, seq: int) -> None:
        """The engine was told to end this one, and has had its time."""
        if (stream := self._streams.get(seq)) is not None:
            self._finish(stream, self._ending(stream, self._leaves_as(stream) or "cancelled"))

    def _finish(self, stream: Stream, ending: Ending) -> None:
        self._streams.finish(stream, ending)
        self._make_way(stream)

    def _make_way(self, stream: Stream) -> None:
        if self._forget(stream):
            self._place_all()

    def _forget(self, stream: Stream) -> bool:
        """Whether streams that waited may run now."""
        self._evictions.pop(stream.seq, None)
        return self._poison_search.ended(stream.seq)

    @staticmethod
    def _leaves_as(stream: Stream) -> FinishReason | None:
        """How it is about to end, if it is."""
        return "stop" if stream.stop_match is not None else stream.leaving

    @staticmethod
    def _ending(stream: Stream, reason: FinishReason, error: RpcError | None = None) -> Ending:
        return Ending(reason, stream.started, stream.timing, error=error)
