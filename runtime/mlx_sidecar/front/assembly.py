"""This module puts the front together: one core, and a connection for each host."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any
from uuid import uuid4

from ..config import Config
from .connection import Connection
from .core import Core
from .opening import Opening
from .supervision.engine_process import EngineProcess
from .supervision.supervisor import Spawn
from .wire.dispatcher import Method
from .wire.mailbox import Mailbox
from .wire.transport import Incoming, Outgoing


class Front:
    """A front for any number of hosts in one process; the engine and the text processes run while its block does."""

    def __init__(
        self,
        config: Config,
        engine: EngineProcess,
        start_engine: Spawn | None = None,
        instance: str | None = None,
    ) -> None:
        """``engine`` is the first one; ``start_engine`` starts those that follow it, by default as processes."""
        self._config = config
        self._first_engine = engine
        self._core = Core(config, instance or uuid4().hex, start_engine)

    async def __aenter__(self) -> Front:
        await self._core.engine.start(self._first_engine)
        if self._config.engine != "fake":
            self._core.texts.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._core.texts.stop()
        await self._core.engine.stop()

    def connect(
        self, reader: Incoming, open_writer: Callable[[Mailbox], Outgoing], extra: Iterable[Method[Any]] = ()
    ) -> Connection:
        """Make a connection, which is still to be run, that serves ``extra`` methods beside those of the contract.

        Bytes come from ``reader`` and go to the writer that ``open_writer`` makes.
        """
        return self.take_up(Opening(self._config, self._core.instance, reader, open_writer), extra)

    def take_up(self, opening: Opening, extra: Iterable[Method[Any]] = ()) -> Connection:
        """Make a connection of ``opening``, which may be running."""
        return Connection(self._core, opening, [*extra, *_fixtures(self._config)])


def _fixtures(config: Config) -> list[Method[Any]]:
    if not config.fixtures:
        return []
    from .wire.fixtures import Fixtures

    return Fixtures().methods()
