"""The sidecar for programs without an event loop, run in a background thread."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import ExitStack
from functools import partial, wraps
from types import TracebackType
from typing import Any, Concatenate, Generic, ParamSpec, Self, TypeVar, Unpack, overload

from anyio.from_thread import BlockingPortal, start_blocking_portal

from .errors import SidecarClosed
from .events import Event
from .forms import T
from .parameters import GenerateOptions, SpawnOptions
from .protocol.generate_result import GenerateResult
from .protocol.notifications import EngineStateParams, StreamDelta
from .sidecar import Sidecar
from .stream import Stream

P = ParamSpec("P")
R = TypeVar("R")


def _blocking(method: Callable[Concatenate[Sidecar, P], Awaitable[R]]) -> Callable[Concatenate[SyncSidecar, P], R]:
    @wraps(method)
    def blocking(self: SyncSidecar, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return self._portal().call(partial(method, self._sidecar, *args, **kwargs))

    return blocking


class SyncStream(Generic[T]):
    """A ``generate``: iterate over its deltas, or call ``wait`` for its result. Leaving its ``with`` block cancels it.

    Without a block, call ``leave`` where a loop ends early, because a dropped stream runs until its window is full.
    """

    def __init__(self, portal: BlockingPortal, stream: Stream[T]) -> None:
        self._portal = portal
        self._stream = stream
        self._ready: deque[StreamDelta] = deque()

    def __iter__(self) -> Iterator[StreamDelta]:
        return self

    def __next__(self) -> StreamDelta:
        # One hop between threads for all waiting deltas, not one for each.
        if not self._ready:
            self._ready.extend(self._portal.call(self._stream.take))
        if not self._ready:
            raise StopIteration
        return self._ready.popleft()

    def events(self) -> Iterator[Event]:
        """The deltas by their channels."""
        for delta in self:
            yield from self._stream.channels.events_of(delta)

    @property
    def reasoning(self) -> str:
        """The reasoning that has been delivered until now."""
        return self._stream.reasoning

    def wait(self) -> GenerateResult:
        """Wait for the result, and drop the remaining deltas."""
        return self._portal.call(self._stream.whole)

    @property
    def result(self) -> GenerateResult:
        """The result. Raises ``RuntimeError`` before the end, and after an end without a result."""
        return self._stream.result

    @property
    def parsed(self) -> T:
        """The value that the answer holds; see ``Stream.parsed``."""
        return self._stream.parsed

    def cancel(self) -> None:
        """Cancel the generation, from any thread; text so far is still delivered."""
        self._portal.call(self._stream.cancel)

    def leave(self) -> None:
        """Cancel, and drop all further deltas and the result."""
        self._ready.clear()
        self._portal.call(self._stream.leave)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self.leave()


class SyncSidecar:
    """``Sidecar`` in a ``with`` block, for programs without an event loop. Threads may share it."""

    def __init__(self, sidecar: Sidecar) -> None:
        self._sidecar = sidecar
        self._stack = ExitStack()
        self._open_portal: BlockingPortal | None = None

    @classmethod
    def spawn(cls, **options: Unpack[SpawnOptions]) -> Self:
        """See ``Sidecar.spawn``. Callbacks are called in the background thread.

        Args:
            options: How it is started: the keys of ``SpawnOptions``.
        """
        return cls(Sidecar.spawn(**options))

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            portal = stack.enter_context(start_blocking_portal())
            stack.enter_context(portal.wrap_async_context_manager(self._sidecar))
            self._stack = stack.pop_all()
        self._open_portal = portal
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self._open_portal = None
        self._stack.__exit__(kind, value, tb)

    @property
    def engine(self) -> EngineStateParams | None:
        """The last reported state of the engine process."""
        return self._sidecar.engine

    @overload
    def generate(
        self, model: str, *, response_format: Mapping[str, Any] | None = None, **options: Unpack[GenerateOptions]
    ) -> SyncStream[Any]: ...

    @overload
    def generate(
        self, model: str, *, response_format: type[T], **options: Unpack[GenerateOptions]
    ) -> SyncStream[T]: ...

    def generate(
        self, model: str, *, response_format: Any = None, **options: Unpack[GenerateOptions]
    ) -> SyncStream[Any]:
        """Continue a prompt, a chat or tokens: ``for delta in …``, or ``….wait()`` for the whole result.

        ``response_format`` as ``Sidecar.generate`` takes it.

        Args:
            model: ``pocket``, a directory, or a hub id.
            response_format: As ``Sidecar.generate`` takes it.
            options: Exactly one of ``prompt``, ``messages`` and ``tokens``, and the other keys of ``GenerateOptions``.
        """
        return SyncStream(self._portal(), self._sidecar.generate(model, response_format=response_format, **options))

    server = _blocking(Sidecar.server)
    process_id = _blocking(Sidecar.process_id)
    load = _blocking(Sidecar.load)
    unload = _blocking(Sidecar.unload)
    models = _blocking(Sidecar.models)
    adapter_load = _blocking(Sidecar.adapter_load)
    adapter_unload = _blocking(Sidecar.adapter_unload)
    adapters = _blocking(Sidecar.adapters)
    check_draft = _blocking(Sidecar.check_draft)
    local_list = _blocking(Sidecar.local_list)
    local_delete = _blocking(Sidecar.local_delete)
    tokenize = _blocking(Sidecar.tokenize)
    detokenize = _blocking(Sidecar.detokenize)
    render = _blocking(Sidecar.render)
    embed = _blocking(Sidecar.embed)
    embed_all = _blocking(Sidecar.embed_all)
    rerank = _blocking(Sidecar.rerank)
    cache_stats = _blocking(Sidecar.cache_stats)
    cache_clear = _blocking(Sidecar.cache_clear)
    cache_warm = _blocking(Sidecar.cache_warm)
    cache_export = _blocking(Sidecar.cache_export)
    cache_import = _blocking(Sidecar.cache_import)
    ping = _blocking(Sidecar.ping)
    stats = _blocking(Sidecar.stats)
    discover = _blocking(Sidecar.discover)
    request = _blocking(Sidecar.request)

    def _portal(self) -> BlockingPortal:
        if self._open_portal is None:
            raise SidecarClosed("use it within its block: with SyncSidecar.spawn() as sidecar")
        return self._open_portal
