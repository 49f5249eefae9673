"""Model files are found, and their text side read, in other threads and processes."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from hashlib import sha256
from pathlib import Path

from mlx_sidecar_protocol.errors import ModelNotFound
from mlx_sidecar_protocol.operations import LoadParams

from ...config import Config
from ...link.text_messages import Inspected, InspectWeights, ModelFolder
from ..supervision.text_pool import TextPool
from . import model_paths
from .fake_text import FakeText
from .model_refusals import Signature, signature
from .model_text import FolderText, ModelText
from .offload import in_thread

log = logging.getLogger(__name__)

FAKE = "fake"  # where every name leads under --engine fake
LOOKUPS = 8  # of where names lead, at once; each may wait for a text process that reads headers
DOWNLOADS = 4  # at once; in threads of their own, so that a slow hub does not keep tokenizing waiting
TEXTS = 8  # token tables kept; one of a 128k vocabulary takes two megabytes and half a second to make

OnProgress = Callable[[str, int, int], None]  # stage, bytes done, bytes in all (0: unknown)


class ModelFiles:
    """The model files of a front. It lives on the event loop, but opens no file there."""

    def __init__(self, config: Config, texts: TextPool) -> None:
        self._config = config
        self._pool = texts
        self._texts: OrderedDict[str, asyncio.Future[ModelText]] = OrderedDict()  # by directory
        self._lookups = ThreadPoolExecutor(LOOKUPS, thread_name_prefix="lookup")
        self._downloads = ThreadPoolExecutor(DOWNLOADS, thread_name_prefix="download")

    async def directory(
        self, params: LoadParams, on_progress: OnProgress | None = None, *, download: bool = False
    ) -> str:
        """The directory that ``params`` lead to; with ``download`` missing files are fetched from the hub.

        Raises as ``model_paths.local`` and ``model_paths.fetch``.
        """
        name, path, revision = params.model, params.path, params.revision
        if self._config.engine == "fake":
            return FAKE
        found: Path | None = None
        inspect = partial(self._inspect, asyncio.get_running_loop())
        try:
            found = await in_thread(self._lookups, partial(model_paths.local, inspect=inspect), name, path, revision)
        except ModelNotFound:
            if not (download and path is None and model_paths.is_hub_id(name)):
                raise
        if found is not None and not (download and await in_thread(None, model_paths.may_lack_files, found)):
            return str(found)
        log.info("%s is not here yet, or not whole: asking the hub", name)
        on_bytes = partial(_report_bytes, asyncio.get_running_loop(), on_progress)
        return str(await in_thread(self._downloads, model_paths.fetch, name, revision, found, on_bytes, inspect))

    async def signature(self, path: str, adapter: str | None) -> Signature:
        """The signature of the files of the model and its adapter; it changes when one of them does."""
        return await in_thread(None, signature, (path, model_paths.adapter_path(adapter)))

    async def inspect(self, name: str, path: str) -> Inspected | None:
        """The facts that a text process reads in config and headers in ``path``; None of the fake engine's.

        Raises as ``weights.inspect``.
        """
        if path == FAKE:
            return None
        return await self._inspected(ModelFolder(name, path, await in_thread(None, _edition, Path(path))))

    async def text(self, name: str, path: str) -> ModelText:
        """The text side of the model in ``path``. Raises as ``FolderText.read``."""
        return await asyncio.shield(self.reading(name, path))

    def reading(self, name: str, path: str) -> asyncio.Future[ModelText]:
        """The one reading for all callers: to be awaited under a shield, because any of them may give up."""
        reading = self._texts.get(path)
        if reading is None:
            reading = self._texts[path] = asyncio.ensure_future(self._read_text(name, path))
            reading.add_done_callback(partial(self._forget_failed, path))
        self._texts.move_to_end(path)
        while len(self._texts) > TEXTS:
            self._texts.popitem(last=False)
        return reading

    def forget(self, path: str) -> None:
        """The model in ``path`` has been unloaded: its token table is not kept."""
        self._texts.pop(path, None)

    async def _inspected(self, folder: ModelFolder) -> Inspected:
        return await self._pool.ask(lambda op: InspectWeights(op, folder), Inspected)

    def _inspect(self, loop: asyncio.AbstractEventLoop, name: str, directory: Path) -> None:
        """``inspect``, for threads of ours that look for models; it needs no other thread."""
        folder = ModelFolder(name, str(directory), _edition(directory))
        asyncio.run_coroutine_threadsafe(self._inspected(folder), loop).result()

    async def _read_text(self, name: str, path: str) -> ModelText:
        if path == FAKE:
            return FakeText()
        edition = await in_thread(None, _edition, Path(path))
        return await FolderText.read(self._pool, ModelFolder(name, path, edition))

    def _forget_failed(self, path: str, reading: asyncio.Future[ModelText]) -> None:
        if (reading.cancelled() or reading.exception() is not None) and self._texts.get(path) is reading:
            del self._texts[path]


def _edition(path: Path) -> str:
    """Changes when a file of the directory does: where its files lie, their sizes, and when they were written."""
    return sha256(repr(signature([str(path)])).encode()).hexdigest()


def _report_bytes(loop: asyncio.AbstractEventLoop, on_progress: OnProgress | None, done: int, total: int) -> None:
    if on_progress is not None:
        loop.call_soon_threadsafe(on_progress, "downloading", done, total)
