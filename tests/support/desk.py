"""A catalog and an engine that do exactly what a test says, for requests on their way from the wire to the engine."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from mlx_sidecar.front.api.model_text import ModelText
from mlx_sidecar.front.streams.journal import Journal
from mlx_sidecar.front.streams.recovery import Recovery
from mlx_sidecar.front.streams.registry import Streams
from mlx_sidecar.front.wire.mailbox import Mailbox
from mlx_sidecar.link.control_messages import Capability, ModelCard
from mlx_sidecar.link.messages import Cancel, Fault, Finished, Pause, Resume, Submit, Timing, Vocabulary
from tests.support.texts import ExplainingText

GONE = Fault("model_not_loaded", "it is not loaded", {"model": "fake"})


class Shelf:
    """A catalog of one model. ``loading`` is set when asking for it begins to take for ever: once it was evicted."""

    def __init__(
        self,
        vocabulary: int = 257,
        text: ModelText | None = None,
        *,
        evicted: bool = False,
        uncacheable: str = "",
        lacks: Mapping[Capability, str] | None = None,
    ) -> None:
        self.loading = asyncio.Event()
        self._card = ModelCard(
            "fake",
            "ready",
            "fake",
            context_length=100_000,
            vocabulary=vocabulary,
            capabilities={"prefix_cache": uncacheable, **(lacks or {})},
        )
        self._text = text or ExplainingText()
        self._evicted = evicted
        self.leaving = False
        self.has_vocabulary = False

    async def ready(self, name: str) -> tuple[ModelCard, ModelText, float]:
        if self._evicted:
            self.loading.set()
            await asyncio.Event().wait()
        return self._card, self._text, 0.0

    def evicted(self, name: str) -> None:
        self._evicted = True

    def holds(self, name: str) -> bool:
        return True

    def is_leaving(self, name: str) -> bool:
        return self.leaving

    def engine_lost(self) -> list[str]:
        return []

    def vocabulary_due(self, name: str) -> bool:
        due, self.has_vocabulary = not self.has_vocabulary, True
        return due

    async def restore(self, name: str) -> None:
        """It is there always."""


class Desk:
    """An engine that answers each sequence at once with ``fault``, or leaves it running; ``sent`` is all it heard."""

    def __init__(self, fault: Fault | None = None) -> None:
        self.sent: list[Submit] = []
        self.vocabularies: list[tuple[int, Vocabulary]] = []  # each with the number of sequences sent before it
        self.told: list[Cancel | Pause | Resume] = []
        self.heard = asyncio.Event()
        self.streams = Streams(Mailbox(), lambda message: self.recovery.post(message))
        self.recovery = Recovery(Journal(2**20), grace_s=0.0)
        self.takes_work = True
        self._fault = fault

    def wake(self, *, urgent: bool = False) -> None:
        """It has not been given up."""

    def restored(self) -> None:
        """It was never lost."""

    def submit(self, message: Submit | Vocabulary) -> None:
        if isinstance(message, Vocabulary):
            self.vocabularies.append((len(self.sent), message))
            return
        self.sent.append(message)
        self.heard.set()
        if self._fault is not None:
            self.recovery.on_finished(Finished(message.seq, "error", False, Timing(), fault=self._fault))

    def post(self, message: Cancel | Pause | Resume) -> None:
        """The engine has gone deaf."""
        self.told.append(message)
