"""What the front knows of models: where a name leads, how its text is tokenised, whether the engine holds it."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from mlx_sidecar_protocol.errors import ModelNotFound, ModelNotLoaded
from mlx_sidecar_protocol.operations import LoadParams

from ..config import Config
from ..link.messages import Load, ModelCard, Progress, Unload
from ..link.supervisor import Supervisor
from ..text.fake import fake_text
from ..text.tokenizer import TextModel
from . import resolve

log = logging.getLogger(__name__)

FAKE = "fake"  # where every name leads under --engine fake
TEXTS = 8  # tokenizers kept; one of a 128k vocabulary takes tens of megabytes and a third of a second to read

OnProgress = Callable[[str, int, int], None]  # stage, bytes done, bytes in all (0: unknown)
T = TypeVar("T")


class Catalog:
    """One per front. Loading a model that is already being loaded waits for that load."""

    def __init__(self, config: Config, engine: Supervisor) -> None:
        self._config = config
        self._engine = engine
        self._known: dict[str, LoadParams] = {}  # how each name was loaded last, for loading it again
        self._texts: OrderedDict[str, TextModel] = OrderedDict()  # by directory
        self._resident: dict[str, ModelCard] = {}
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    def engine_lost(self) -> None:
        """Nothing is resident any more."""
        self._resident.clear()

    def evicted(self, name: str) -> None:
        """The engine no longer holds ``name``."""
        self._resident.pop(name, None)

    async def text(self, name: str) -> TextModel:
        """The text side of a model; its weights are not loaded for this.

        Raises:
            ModelNotLoaded: it is not resident and the sidecar runs with ``--no-autoload``.
            ModelNotFound: the name leads nowhere without a download.
        """
        if name not in self._resident and not self._config.autoload:
            raise ModelNotLoaded(name)
        return await self._text(await self._directory(name, self._known.get(name)))

    async def ready(self, name: str) -> tuple[ModelCard, TextModel, float]:
        """A model to generate with, loaded if need be, and the seconds that loading it cost."""
        card = self._resident.get(name)
        if card is not None:
            return card, await self._text(card.path), 0.0
        if not self._config.autoload:
            raise ModelNotLoaded(name)
        return await self.load(self._known.get(name, LoadParams(model=name)), download=False)

    async def load(
        self, params: LoadParams, on_progress: OnProgress | None = None, *, download: bool = True
    ) -> tuple[ModelCard, TextModel, float]:
        """Make a model resident, fetching it from the hub if ``download``. Loading a loaded model costs nothing."""
        async with self._locks[params.model]:
            path = await self._directory(params.model, params, on_progress if download else None, download=download)
            message = Load(
                op=self._engine.next_op(),
                model=params.model,
                path=path,
                dtype=params.dtype,
                adapter=params.adapter,
                pin=params.pin,
                ttl_s=params.ttl_s,
            )
            report = None if on_progress is None else partial(_report, on_progress)
            # Weights in the engine and tokenizer in a thread of ours, at the same time.
            loaded, text = await asyncio.gather(self._engine.load(message, report), self._text(path))
            self._known[params.model] = params
            self._resident[params.model] = loaded.card
            return loaded.card, text, loaded.load_s

    async def unload(self, name: str, *, force: bool) -> int:
        """Drop a model; returns the bytes freed. Raises ModelInUse, ModelNotLoaded."""
        answer = await self._engine.unload(Unload(self._engine.next_op(), name, force))
        card = self._resident.pop(name, None)
        if card is not None:
            self._texts.pop(card.path, None)
        return answer.freed_bytes

    async def _directory(
        self, name: str, params: LoadParams | None, on_progress: OnProgress | None = None, *, download: bool = False
    ) -> str:
        if self._config.engine == "fake":
            return FAKE
        path, revision = (params.path, params.revision) if params else (None, None)
        if name == resolve.POCKET or path is not None:
            return str(resolve.local(name, path))
        if download and resolve.is_hub_id(name):
            return str(await _in_thread(_fetch, name, revision, on_progress, asyncio.get_running_loop()))
        return str(await _in_thread(resolve.local, name, None, revision))

    async def _text(self, path: str) -> TextModel:
        text = self._texts.get(path)
        if text is None:
            text = fake_text() if path == FAKE else await _in_thread(TextModel.load, Path(path))
            self._texts[path] = text
        self._texts.move_to_end(path)
        while len(self._texts) > TEXTS:
            self._texts.popitem(last=False)
        return text


def _fetch(name: str, revision: str | None, on_progress: OnProgress | None, loop: asyncio.AbstractEventLoop) -> Any:
    try:
        return resolve.local(name, None, revision)
    except ModelNotFound:
        log.info("%s is not here yet: asking the hub", name)

    def on_bytes(done: int, total: int) -> None:
        if on_progress is not None:
            loop.call_soon_threadsafe(on_progress, "downloading", done, total)

    return resolve.download(name, revision, on_bytes)


def _report(on_progress: OnProgress, progress: Progress) -> None:
    on_progress(progress.stage, progress.done_bytes, progress.total_bytes)


async def _in_thread(function: Callable[..., T], *args: Any) -> T:
    return await asyncio.get_running_loop().run_in_executor(None, partial(function, *args))
