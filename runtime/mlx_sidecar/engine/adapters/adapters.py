"""The adapters of all resident models: by name, in memory as far as its bound allows, and read again when needed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import count

import msgspec

from mlx_sidecar_protocol.errors import (
    AdapterLoadFailed,
    InternalError,
    InvalidParams,
    ModelNotLoaded,
    OutOfMemory,
    RpcError,
    UnknownAdapter,
    UnsupportedParameter,
)

from ...link import adapter_messages as link
from ...link.adapter_messages import AdapterCard, AdapterLoaded, AdapterUnloaded, LoadAdapter, QueryAdapters
from ...link.faults import fault_of
from ...link.messages import Refused, ToFront
from ..cache.identity import identity
from ..cache.prefix_cache import PrefixCache
from ..core.adapter import Adaptable
from ..core.memory_ledger import ADAPTERS, MemoryLedger, Owner
from ..core.oom_backoff import out_of_memory
from ..core.preparer import Ending, Preparer
from ..core.sequence import Sequence
from ..resident_models import ResidentModels
from .reading import Content, Read, Wanted, read

log = logging.getLogger(__name__)

SHARE = 8  # of what the engine may use: adapters of a few models, which are small beside their weights
LIMIT = 256  # names of one model


@dataclass(eq=False)
class _Adapter:
    """An adapter under its name. Its ``card`` is None until it was read once.

    ``users`` are all sequences that want it and have not ended, of which some are ``waiting`` for its matrices. ``ops``
    are the loads that wait, ``leaving`` the unloads: no request may name it any more.
    """

    model: str
    name: str
    path: str
    host: Adaptable
    card: AdapterCard | None = None
    resident: bool = False
    began_s: float = 0.0
    used: int = 0  # the higher, the later
    users: dict[int, Sequence] = field(default_factory=dict)
    waiting: dict[int, Sequence] = field(default_factory=dict)
    ops: list[int] = field(default_factory=list)
    leaving: list[int] = field(default_factory=list)

    @property
    def in_use(self) -> bool:
        """Whether a row is computed with it."""
        return self.host.rows.is_used(self.name)

    @property
    def told(self) -> AdapterCard:
        """Its card as it is now."""
        assert self.card is not None
        return msgspec.structs.replace(self.card, resident=self.resident, streams=len(self.users))


class Adapters(Preparer):
    """Lets a sequence wait until the adapter that it names is in memory; no other sequence does.

    All adapters together have a share of the engine's memory. Where more are wanted the least recently used go, but
    none that a row uses; its name stays, and its files are read again when a request names it.
    """

    name = "adapter"

    def __init__(
        self,
        models: ResidentModels,
        ledger: MemoryLedger,
        prefix_cache: PrefixCache | None,
        *,
        post: Callable[[object], None],
        send: Callable[[list[ToFront]], None],
        clock: Callable[[], float],
    ) -> None:
        """Events of the reading thread are given to ``post``, answers to ``send``."""
        self._models = models
        self._ledger = ledger
        self._prefix_cache = prefix_cache
        self._post = post
        self._send = send
        self._clock = clock
        self._reader = ThreadPoolExecutor(1, "adapters")  # its thread is there once an adapter is
        self._uses = count(1)
        # One is read at a time, because what was read and has no room yet is in no books.
        self._reading: _Adapter | None = None
        self._wanted: list[_Adapter] = []
        self._adapters: dict[tuple[str, str], _Adapter] = {}
        self._hosts: dict[str, Adaptable] = {}  # whose bytes the ledger knows
        self._leaving: list[_Adapter] = []  # those that are unloaded once they are free
        self._changes = models.changes
        self._candidate: _Adapter | None = None  # of the sequence that is about to be given a place
        self._there: list[Sequence] = []
        self._over: list[Ending] = []
        models.lenders.append(self)

    @property
    def limit_bytes(self) -> int:
        """The bytes that all adapters together may have."""
        return self._ledger.limit_bytes // SHARE

    # What the front asks for.

    def load(self, message: LoadAdapter) -> None:
        """Answer ``message`` when the adapter is there. Raises ``ModelNotLoaded``, and what speaks against it."""
        known = self._adapters.get((message.model, message.adapter))
        host = self._host(message.model)
        if known is None:
            self._begin(message, host)
            return
        if known.leaving:
            raise InvalidParams.field("adapter", f"{message.adapter!r} is being unloaded, and requests still use it")
        if known.path != message.path:
            have = f"{message.adapter!r} is loaded with path {known.path!r}; unload it first"
            raise InvalidParams.field("path", have)
        if known.card is not None and (known.resident or message.known is not None):
            self._touch(known)
            self._send([AdapterLoaded(message.op, known.told, 0.0)])
            return
        if not self._could_fit(known):
            raise OutOfMemory(need_bytes=known.told.memory_bytes, have_bytes=0)
        known.ops.append(message.op)
        self._want(known)

    def unload(self, op: int, model: str, name: str) -> None:
        """Answer ``op`` when no sequence wants the adapter any more. Raises ``UnknownAdapter``."""
        self._models.resident(model)
        adapter = self._adapters.get((model, name))
        if adapter is None:
            raise UnknownAdapter(name, model)
        adapter.leaving.append(op)
        if adapter not in self._leaving:
            self._leaving.append(adapter)
        self._answer_loads(adapter, AdapterLoadFailed(name, "it was unloaded before it was ready"))
        self._leave_if_free(adapter)

    def tell(self, message: QueryAdapters) -> None:
        """Answer ``message`` with the cards of all adapters that have been read."""
        cards = [adapter.told for adapter in self._adapters.values() if adapter.card is not None]
        self._send([link.Adapters(message.op, [card for card in cards if message.model in (None, card.model)])])

    # A sequence's way.

    def check(self, sequence: Sequence) -> None:
        """Raise ``UnsupportedParameter`` for a model without adapters, ``UnknownAdapter`` for a name that it lacks.

        ``OutOfMemory`` where sequence and adapter would not fit together.
        """
        if sequence.asked.adapter is None:
            return
        self._host(sequence.model)
        adapter = self._of(sequence)
        if adapter is None or (adapter.leaving and not sequence.asked.again):
            raise UnknownAdapter(sequence.asked.adapter, sequence.model)
        need_bytes = sequence.need_bytes + (0 if adapter.card is None else adapter.card.memory_bytes)
        if need_bytes > (most_bytes := self._models.most_bytes(sequence.model)):
            raise OutOfMemory(need_bytes=need_bytes, have_bytes=most_bytes)

    def arrived(self, sequence: Sequence, now: float) -> bool:
        """Note the use of an adapter; return whether its matrices must be read first."""
        adapter = self._of(sequence)
        if adapter is None:
            return False
        adapter.users[sequence.id] = sequence
        self._touch(adapter)
        return self._wait(sequence, adapter)

    def holds_back(self, candidate: Sequence, now: float) -> bool:
        """Whether the matrices of its adapter have gone while ``candidate`` waited for a place."""
        self._candidate = adapter = self._of(candidate)
        return adapter is not None and self._wait(candidate, adapter)

    def told(self, event: object, now: float) -> None:
        """Take in what the reading thread has read."""
        if not isinstance(event, Read):
            return
        adapter, self._reading = self._reading, None
        if adapter is None or self._adapters.get((adapter.model, adapter.name)) is not adapter:
            return  # it, or its model, is gone
        if isinstance(event.result, RpcError):
            self._failed(adapter, event.result)
        elif adapter.card is not None and adapter.card.digest != event.result.card.digest:
            changed = "its files have changed; unload it, and load it again"
            self._failed(adapter, AdapterLoadFailed(adapter.name, changed))
        else:
            self._place(adapter, event.result)

    def ready(self, now: float) -> Iterable[Sequence]:
        """Return the sequences whose adapters are there; forget adapters of models that are gone.

        A turn in which nothing waits costs the same with any number of adapters.
        """
        self._candidate = None
        if self._changes != self._models.changes:
            self._changes = self._models.changes
            self._tidy()
        for adapter in list(self._leaving):
            self._leave_if_free(adapter)
        if self._wanted:
            self._read_next()
        there, self._there = self._there, []
        return there

    def endings(self) -> Iterable[Ending]:
        """Return the sequences whose adapters cannot be had."""
        over, self._over = self._over, []
        return over

    def left(self, sequence: Sequence) -> None:
        """Let nothing more be done for ``sequence``."""
        if sequence.asked.adapter is None:
            return
        if (adapter := self._of(sequence)) is not None:
            adapter.users.pop(sequence.id, None)
            adapter.waiting.pop(sequence.id, None)
        self._there = [other for other in self._there if other is not sequence]
        self._over = [ending for ending in self._over if ending.sequence is not sequence]

    # Memory that others may have.

    @property
    def reclaimable_bytes(self) -> int:
        """Bytes of adapters that no row uses, nor the sequence that is about to be given a place."""
        return sum(adapter.told.memory_bytes for adapter in self._idle())

    def release(self, need_bytes: float) -> None:
        """Give back ``need_bytes``, as far as there are so many: the least recently used go first."""
        for adapter in self._idle():
            if need_bytes <= 0:
                return
            need_bytes -= adapter.told.memory_bytes
            self._evict(adapter)

    # How it is done.

    def _host(self, model: str) -> Adaptable:
        loaded = self._models.resident(model).loaded
        if loaded.adaptable is None:
            raise UnsupportedParameter("adapter", loaded.card.lacks("adapter"))
        return loaded.adaptable

    def _of(self, sequence: Sequence) -> _Adapter | None:
        name = sequence.asked.adapter
        return None if name is None else self._adapters.get((sequence.model, name))

    def _touch(self, adapter: _Adapter) -> None:
        adapter.used = next(self._uses)

    def _begin(self, message: LoadAdapter, host: Adaptable) -> None:
        if sum(model == message.model for model, _ in self._adapters) >= LIMIT:
            raise InvalidParams.field("adapter", f"{message.model!r} has {LIMIT} adapters, which is the limit")
        adapter = _Adapter(message.model, message.adapter, message.path, host, began_s=self._clock())
        self._adapters[message.model, message.adapter] = adapter
        self._touch(adapter)
        if message.known is not None:
            self._know(adapter, message.known)
            self._send([AdapterLoaded(message.op, adapter.told, 0.0)])
            return
        adapter.ops.append(message.op)
        self._want(adapter)

    def _know(self, adapter: _Adapter, card: AdapterCard) -> None:
        """Give ``adapter`` its card, and its part of the prefix cache."""
        adapter.card = card
        base = self._models.resident(adapter.model).loaded.prefixes
        if base is None or self._prefix_cache is None or adapter.name in adapter.host.prefixes:
            return
        own = self._prefix_cache.prefixes(identity(base.identity, "adapter", card.digest), base.spec)
        if own is not None:
            adapter.host.prefixes[adapter.name] = own

    def _wait(self, sequence: Sequence, adapter: _Adapter) -> bool:
        if adapter.resident:
            return False
        adapter.waiting[sequence.id] = sequence
        self._want(adapter)
        return True

    def _want(self, adapter: _Adapter) -> None:
        """Have the matrices of ``adapter`` read, unless they are on their way."""
        if adapter is not self._reading and adapter not in self._wanted:
            adapter.began_s = self._clock()
            self._wanted.append(adapter)
            self._read_next()

    def _read_next(self) -> None:
        """Begin to read the first that is wanted and fits, unless one is being read."""
        adapter = next((each for each in self._wanted if self._could_fit(each)), None)
        if self._reading is not None or adapter is None:
            return
        self._wanted.remove(adapter)
        self._reading = adapter
        where = adapter.model, adapter.name, adapter.path
        wanted = Wanted(*where, adapter.host.rows.projections, self.limit_bytes)
        self._reader.submit(lambda: self._post(read(wanted)))

    def _could_fit(self, adapter: _Adapter) -> bool:
        """Whether there is room for ``adapter``, as far as is known, once all go that no row uses."""
        need_bytes = 0 if adapter.card is None else adapter.card.memory_bytes
        return self._ledger.bytes_of(ADAPTERS) - self.reclaimable_bytes + need_bytes <= self.limit_bytes

    def _place(self, adapter: _Adapter, content: Content) -> None:
        """Attach what was read, if there is room; else it is read again when rows of other adapters have ended."""
        need_bytes = content.card.memory_bytes
        try:
            if self._make_room(need_bytes):
                self._attach(adapter, content)
            elif adapter.card is None or not adapter.waiting:
                raise OutOfMemory(need_bytes=need_bytes, have_bytes=0)
            else:
                self._answer_loads(adapter, OutOfMemory(need_bytes=need_bytes, have_bytes=0))
                self._wanted.insert(0, adapter)
        except Exception as error:
            failed = error if isinstance(error, RpcError) else out_of_memory(error, self._models.free_bytes)
            if failed is None:
                log.error("the adapter %s could not be attached", adapter.name, exc_info=error)
            self._failed(adapter, failed or InternalError())

    def _make_room(self, need_bytes: int) -> bool:
        """Have adapters go, and others, for ``need_bytes``; return False where rows use those that would have to.

        Raises ``OutOfMemory`` where others hold the memory.
        """
        while self._ledger.bytes_of(ADAPTERS) + need_bytes > self.limit_bytes:
            idle = self._idle()
            if not idle:
                return False
            self._evict(idle[0])
        self._models.make_room(need_bytes)
        return True

    def _attach(self, adapter: _Adapter, content: Content) -> None:
        if self._host(adapter.model) is not adapter.host:  # its model went, and came back, perhaps to make room
            raise ModelNotLoaded(adapter.model)
        if adapter.model not in self._hosts:
            self._hosts[adapter.model] = host = adapter.host
            self._ledger.meter(Owner(ADAPTERS, adapter.model), lambda: host.rows.held_bytes)
        adapter.host.rows.attach(adapter.name, content.pairs)
        adapter.resident = True
        if adapter.card is None:
            self._know(adapter, content.card)
        ops, adapter.ops = adapter.ops, []
        self._send([AdapterLoaded(op, adapter.told, self._clock() - adapter.began_s) for op in ops])
        self._there += adapter.waiting.values()
        adapter.waiting.clear()

    def _failed(self, adapter: _Adapter, error: RpcError) -> None:
        self._answer_loads(adapter, error)
        self._over += [Ending(sequence, "error", fault_of(error)) for sequence in adapter.waiting.values()]
        adapter.waiting.clear()
        if adapter.card is None:  # no request ever had it
            self._forget(adapter)

    def _answer_loads(self, adapter: _Adapter, error: RpcError) -> None:
        ops, adapter.ops = adapter.ops, []
        self._send([Refused(op, fault_of(error)) for op in ops])

    def _idle(self) -> list[_Adapter]:
        """The adapters that may go, least recently used first."""
        kept = [each for each in self._adapters.values() if each.resident and each is not self._candidate]
        return sorted((each for each in kept if not each.in_use), key=lambda each: each.used)

    def _evict(self, adapter: _Adapter) -> None:
        adapter.host.rows.detach(adapter.name)
        adapter.resident = False

    def _tidy(self) -> None:
        """Forget the adapters of models that are gone."""
        resident = {name: loaded.adaptable for name, loaded in self._models.loaded()}
        for model in [model for model, host in self._hosts.items() if resident.get(model) is not host]:
            del self._hosts[model]
            self._ledger.release(Owner(ADAPTERS, model))
        for adapter in list(self._adapters.values()):
            if resident.get(adapter.model) is not adapter.host:
                self._model_gone(adapter)

    def _model_gone(self, adapter: _Adapter) -> None:
        self._answer_loads(adapter, ModelNotLoaded(adapter.model))
        self._send([AdapterUnloaded(op, 0) for op in adapter.leaving])
        self._forget(adapter)

    def _leave_if_free(self, adapter: _Adapter) -> None:
        if adapter.users or adapter.in_use:
            return
        freed_bytes = adapter.told.memory_bytes if adapter.resident else 0
        if adapter.resident:
            self._evict(adapter)
        self._send([AdapterUnloaded(op, freed_bytes) for op in adapter.leaving])
        self._forget(adapter)

    def _forget(self, adapter: _Adapter) -> None:
        del self._adapters[adapter.model, adapter.name]
        for others in (self._wanted, self._leaving):
            if adapter in others:
                others.remove(adapter)
        own = adapter.host.prefixes.pop(adapter.name, None)
        if own is not None and self._prefix_cache is not None:
            self._prefix_cache.leave(own)
