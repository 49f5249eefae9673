"""The sidecar for asynchronous programs."""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterable, Mapping, Sequence
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack, overload

import anyio
from anyio.abc import TaskGroup

from .connection import Connection
from .errors import SidecarClosed, SidecarLost
from .executable import find_command
from .forms import Form, T
from .notices import Notices
from .parameters import (
    EmbedAllOptions,
    EmbedOptions,
    GenerateOptions,
    LoadOptions,
    OnProgress,
    PrefixOptions,
    RenderOptions,
    RerankOptions,
    SpawnOptions,
    WarmOptions,
    on_the_wire,
)
from .protocol.adapters import AdapterLoadResult, AdaptersResult, AdapterUnloadResult
from .protocol.cache import CacheClearResult, CacheFileResult, CacheStatsResult, CacheWarmResult
from .protocol.embed import EmbedResult, RerankResult
from .protocol.local import LocalDeleteResult, LocalListResult
from .protocol.model import Sent
from .protocol.notifications import EngineStateParams
from .protocol.operations import (
    CheckDraftResult,
    DetokenizeResult,
    DiscoverResult,
    InitializeResult,
    LoadResult,
    ModelsResult,
    RenderResult,
    TokenizeResult,
    UnloadResult,
)
from .protocol.stats import StatsResult
from .stream import Stream
from .supervisor import Supervisor
from .vectors import BATCH, embedded_all

Result = TypeVar("Result", bound=Sent)

DEFAULT_WINDOW = 64  # unread deltas of a stream; the same in all our clients

# Methods to be sent again after a loss. A stream decides for itself.
_IDEMPOTENT = frozenset(
    [
        "ping",
        "models",
        "load",
        "tokenize",
        "detokenize",
        "render",
        "stats",
        "cache/stats",
        "local/list",
        "check_draft",
        "adapters",
        "embed",
        "rerank",
        "rpc.discover",
    ]
)


class Sidecar:
    """A running sidecar, replaced if it dies. Made by ``spawn``, alive in its ``async with`` block.

    Every method raises the sidecar's error as the ``RpcError`` of its kind, and ``SidecarLost`` if the process ends
    before the answer and the request cannot be sent again. Cancelling a call cancels its request.
    """

    def __init__(self, words: Sequence[str], options: SpawnOptions) -> None:
        self._words = words
        self._cwd, self._env = options.get("cwd"), options.get("env")
        self._respawn = options.get("respawn", True)
        self._window = options.get("window", DEFAULT_WINDOW)
        self._notices = Notices(options.get("on_engine_state"))
        self._progress_tokens = count(1)
        self._tasks: TaskGroup
        self._supervisor: Supervisor | None = None

    @classmethod
    def spawn(cls, **options: Unpack[SpawnOptions]) -> Self:
        """A sidecar that starts when its block is entered and is gone when the block is left.

        Args:
            options: How it is started: the keys of ``SpawnOptions``.

        Raises:
            ExecutableNotFound: Here, if no executable is found.
            TypeError: Here, for an option that there is not.
            SidecarLost, OSError: On entering the block, if the sidecar does not start.
        """
        if unknown := options.keys() - SpawnOptions.__annotations__.keys():
            raise TypeError(f"spawn has no option {min(unknown)!r}")
        command = find_command(options.get("command"), options.get("env"))
        return cls([*command, "serve", "--framing", "lines", *options.get("options", ())], options)

    async def __aenter__(self) -> Self:
        self._tasks = await anyio.create_task_group().__aenter__()
        self._supervisor = Supervisor(self._tasks, self._start, respawn=self._respawn)
        try:
            await self._supervisor.start()
        except BaseException as error:
            await self.__aexit__(type(error), error, error.__traceback__)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None
    ) -> None:
        supervisor, self._supervisor = self._supervisor, None
        with anyio.CancelScope(shield=True):
            if supervisor is not None:
                await supervisor.close()
        self._tasks.cancel_scope.cancel()
        # The block's exception is not given to the group, which would wrap it in an ExceptionGroup.
        await self._tasks.__aexit__(None, None, None)

    async def _start(self) -> Connection:
        return await Connection.start(self._words, self._notices.take, self._cwd, self._env)

    @property
    def engine(self) -> EngineStateParams | None:
        """The last reported state of the engine process."""
        return self._notices.engine

    async def server(self) -> InitializeResult:
        """Version, capabilities and limits of the present process."""
        initialized = (await self._connection()).initialized
        assert initialized is not None
        return initialized

    async def process_id(self) -> int:
        """The id of the present process."""
        return (await self._connection()).pid

    # Generating.

    @overload
    def generate(
        self, model: str, *, response_format: Mapping[str, Any] | None = None, **options: Unpack[GenerateOptions]
    ) -> Stream[Any]: ...

    @overload
    def generate(self, model: str, *, response_format: type[T], **options: Unpack[GenerateOptions]) -> Stream[T]: ...

    def generate(
        self,
        model: str,
        *,
        response_format: type[T] | Mapping[str, Any] | None = None,
        **options: Unpack[GenerateOptions],
    ) -> Stream[T]:
        """Continue a prompt, a chat or tokens: ``async for delta in …``, or ``await …`` for the whole result.

        ``response_format`` is a pydantic model or another type whose values JSON can hold, or a mapping as
        docs/protocol.md has it. The answer has this form then, and ``parsed`` of the stream its value.

        Args:
            model: ``pocket``, a directory, or a hub id.
            response_format: A type whose values JSON can hold, e.g. a pydantic model, or a mapping as docs/protocol.md
                has it.
            options: Exactly one of ``prompt``, ``messages`` and ``tokens``, and the other keys of ``GenerateOptions``.
        """
        return Stream(self._connection, on_the_wire({"model": model, **options}), self._window, Form(response_format))

    # Models.

    async def load(
        self, model: str, *, on_progress: OnProgress | None = None, **options: Unpack[LoadOptions]
    ) -> LoadResult:
        """Make a model resident. If the sidecar is replaced, the next one loads it again.

        Args:
            model: ``pocket``, a directory, or a hub id.
            on_progress: Called with how far it is. Must not block.
            options: The keys of ``LoadOptions``.
        """
        params: dict[str, Any] = {"model": model, **options}
        token = next(self._progress_tokens)
        if on_progress is not None:
            self._notices.progress[token] = on_progress
        try:
            asked = params if on_progress is None else {**params, "progress": token}
            result = await self._ask(LoadResult, "load", asked)
        finally:
            self._notices.progress.pop(token, None)
        self._alive().loads[model] = params
        return result

    async def unload(self, model: str, *, force: bool = False) -> UnloadResult:
        """Drop a model; with ``force`` its running streams end with an error.

        Args:
            model: The name it was loaded by.
            force: End its running streams instead of being refused with ``ModelInUse``.
        """
        supervisor = self._alive()
        supervisor.loads.pop(model, None)
        supervisor.adapters = {key: load for key, load in supervisor.adapters.items() if key[0] != model}
        return await self._ask(UnloadResult, "unload", {"model": model, "force": force})

    async def adapter_load(self, model: str, adapter: str, path: str | os.PathLike[str]) -> AdapterLoadResult:
        """Let requests to a model name an adapter. If the sidecar is replaced, the next one loads it again.

        Args:
            model: The model that it was trained on.
            adapter: The name that requests use.
            path: The folder with its files.
        """
        params = {"model": model, "adapter": adapter, "path": _absolute(path)}
        result = await self._ask(AdapterLoadResult, "adapter/load", params)
        self._alive().adapters[model, adapter] = params
        return result

    async def adapter_unload(self, model: str, adapter: str) -> AdapterUnloadResult:
        """Take no new request with an adapter, and return when the last one has ended.

        Args:
            model: The model that it was loaded for.
            adapter: Its name.
        """
        self._alive().adapters.pop((model, adapter), None)
        return await self._ask(AdapterUnloadResult, "adapter/unload", {"model": model, "adapter": adapter})

    async def adapters(self, model: str | None = None) -> AdaptersResult:
        """The adapters of one model, or of all.

        Args:
            model: One model; None for all.
        """
        return await self._ask(AdaptersResult, "adapters", {"model": model})

    async def models(self) -> ModelsResult:
        """The models that are resident or loading."""
        return await self._ask(ModelsResult, "models", {})

    async def local_list(self, model: str | None = None, *, folders: Sequence[str] = ()) -> LocalListResult:
        """The models on this machine, loaded or not: all there are, or one.

        Args:
            model: One model; None for all.
            folders: Places to look in, besides the hub's cache and mlx-sidecar's own folder.
        """
        return await self._ask(LocalListResult, "local/list", {"model": model, "folders": list(folders)})

    async def local_delete(self, model: str) -> LocalDeleteResult:
        """Delete a model of the hub's cache or of mlx-sidecar's own folder.

        Args:
            model: Its name in ``local_list``.
        """
        return await self._ask(LocalDeleteResult, "local/delete", {"model": model})

    async def check_draft(self, model: str, draft: str) -> CheckDraftResult:
        """Whether ``draft`` has the vocabulary of ``model``, so that it can make proposals for it.

        Args:
            model: The model that answers.
            draft: The model that would make proposals.
        """
        return await self._ask(CheckDraftResult, "check_draft", {"model": model, "draft": draft})

    # Text.

    async def tokenize(
        self,
        model: str,
        text: str,
        *,
        add_special: bool = True,
        pieces: bool = False,
        escape_special: bool = False,
    ) -> TokenizeResult:
        """Text to token ids.

        Args:
            model: The model whose tokenizer is used.
            text: The text, without a chat template.
            add_special: Whether the tokens that the tokenizer puts around texts are among them.
            pieces: Whether the result has the text of each token.
            escape_special: Whether names of control tokens in ``text`` are plain text.
        """
        params = {
            "model": model,
            "text": text,
            "add_special": add_special,
            "pieces": pieces,
            "escape_special": escape_special,
        }
        return await self._ask(TokenizeResult, "tokenize", params)

    async def detokenize(self, model: str, tokens: Sequence[int]) -> DetokenizeResult:
        """Token ids to text.

        Args:
            model: The model whose tokenizer is used.
            tokens: Token ids.
        """
        return await self._ask(DetokenizeResult, "detokenize", {"model": model, "tokens": tokens})

    async def render(
        self, model: str, messages: Sequence[Mapping[str, Any]], **options: Unpack[RenderOptions]
    ) -> RenderResult:
        """The text and token ids of a chat under the model's template.

        Args:
            model: The model whose template is used.
            messages: The chat.
            options: The keys of ``RenderOptions``.
        """
        return await self._ask(RenderResult, "render", {"model": model, "messages": messages, **options})

    # Vectors.

    async def embed(
        self, model: str, texts: Sequence[str | Sequence[int]], **options: Unpack[EmbedOptions]
    ) -> EmbedResult:
        """A vector for each of ``texts``, at most 2048, which are strings or token ids.

        Args:
            model: An embedding model.
            texts: Strings, or lists of token ids.
            options: The keys of ``EmbedOptions``.
        """
        return await self._ask(EmbedResult, "embed", {"model": model, "input": texts, **options})

    async def embed_all(
        self,
        model: str,
        texts: Iterable[str | Sequence[int]],
        *,
        batch: int = BATCH,
        **options: Unpack[EmbedAllOptions],
    ) -> list[array[float]]:
        """A vector of float32 for each of any number of ``texts``, in order; ``batch`` of them make a request.

        The next request is on its way while the sidecar works on one.

        Args:
            model: An embedding model.
            texts: Strings, or lists of token ids.
            batch: How many of them make a request.
            options: The keys of ``EmbedAllOptions``.
        """
        return await embedded_all(self.embed, model, texts, batch, options)

    async def rerank(
        self, model: str, query: str, documents: Sequence[str], **options: Unpack[RerankOptions]
    ) -> RerankResult:
        """The documents by how well they answer the query, best first.

        Args:
            model: A reranking model.
            query: The question.
            documents: The texts to put in order.
            options: The keys of ``RerankOptions``.
        """
        return await self._ask(
            RerankResult, "rerank", {"model": model, "query": query, "documents": documents, **options}
        )

    # The prefix cache.

    async def cache_stats(self) -> CacheStatsResult:
        """Contents and counters of the prefix cache."""
        return await self._ask(CacheStatsResult, "cache/stats", {})

    async def cache_clear(self, model: str | None = None, *, disk: bool = True) -> CacheClearResult:
        """Forget cached prompts of one model, or of all.

        Args:
            model: One model; None for all.
            disk: Whether files of the cache go, too.
        """
        return await self._ask(CacheClearResult, "cache/clear", {"model": model, "disk": disk})

    async def cache_warm(self, model: str, **options: Unpack[WarmOptions]) -> CacheWarmResult:
        """Compute a prefix, and pin it in the cache.

        Args:
            model: The model that will be asked.
            options: The prefix and the other keys of ``WarmOptions``.
        """
        return await self._ask(CacheWarmResult, "cache/warm", {"model": model, **options})

    async def cache_export(
        self, path: str | os.PathLike[str], model: str, **options: Unpack[PrefixOptions]
    ) -> CacheFileResult:
        """Write the cached part of a conversation to a file.

        Args:
            path: The file to write.
            model: The model whose cache it is.
            options: The prefix: the keys of ``PrefixOptions``.
        """
        return await self._ask(CacheFileResult, "cache/export", {"path": _absolute(path), "model": model, **options})

    async def cache_import(self, path: str | os.PathLike[str], model: str) -> CacheFileResult:
        """Read a file of ``cache_export`` into the cache.

        Args:
            path: A file of ``cache_export``.
            model: The model that it was computed by.
        """
        return await self._ask(CacheFileResult, "cache/import", {"path": _absolute(path), "model": model})

    # The rest.

    async def ping(self) -> None:
        """Return when the sidecar has answered."""
        await self.request("ping", {})

    async def stats(self) -> StatsResult:
        """Counters, latencies, health, memory."""
        return await self._ask(StatsResult, "stats", {})

    async def discover(self) -> DiscoverResult:
        """The OpenRPC document of this sidecar."""
        return await self._ask(DiscoverResult, "rpc.discover", {})

    async def request(self, method: str, params: Mapping[str, Any]) -> dict[str, Any]:
        """Call any method and return its plain result, for methods that this client lacks.

        Args:
            method: Its name, e.g. ``cache/stats``.
            params: As docs/protocol.md has them.
        """
        try:
            return await self._send(method, params)
        except SidecarLost:
            if method not in _IDEMPOTENT:
                raise
        return await self._send(method, params)

    async def _ask(self, result: type[Result], method: str, params: Mapping[str, Any]) -> Result:
        return result.model_validate(await self.request(method, on_the_wire(params)), extra="ignore")

    async def _send(self, method: str, params: Mapping[str, Any]) -> dict[str, Any]:
        connection = await self._connection()
        call = connection.call(method, params)
        try:
            return await call.answer()
        finally:
            connection.cancel(call)

    async def _connection(self) -> Connection:
        return await self._alive().connection()

    def _alive(self) -> Supervisor:
        if self._supervisor is None:
            raise SidecarClosed("use it within its block: async with Sidecar.spawn() as sidecar")
        return self._supervisor


def _absolute(path: str | os.PathLike[str]) -> str:
    return str(Path(path).absolute())
