"""Front and fake engine in this process, over pipes that lead nowhere else: a sidecar that is there in milliseconds.

The front runs on a thread with an event loop of its own, the engine's step loop on another. Signals, parents and
the order of starting are left out, because only processes have these.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

from mlx_sidecar.cli.arguments import command_line
from mlx_sidecar.cli.serve import config_of as _config_of
from mlx_sidecar.config import Config
from mlx_sidecar.front.assembly import Front
from mlx_sidecar.front.connection import Connection
from mlx_sidecar.front.wire.dispatcher import Method
from mlx_sidecar.front.wire.reader import Reader
from mlx_sidecar.front.wire.writer import Writer

from .byte_host import PATIENCE_S
from .engine_thread import EngineThread, engine_thread
from .host import Host


def config_of(words: list[str]) -> Config:
    """The configuration that the command line makes of ``words``."""
    return _config_of(command_line(words).parse(words))


class Pair(Host):
    """A host, and what ``serve --engine fake OPTION…`` makes, in one process."""

    def __init__(self, *options: str, framing: str = "lines", extra: Iterable[Method[Any]] = ()) -> None:
        stdin, to_front = os.pipe()
        from_front, stdout = socket.socketpair()  # unlike a pipe it can be shut down under those that watch it
        self._server = Server(config_of(["serve", "--engine", "fake", *options]), stdin, stdout, extra)
        super().__init__(
            os.fdopen(to_front, "wb", buffering=0), os.fdopen(from_front.detach(), "rb", buffering=0), framing
        )
        self._server.start()

    def signal_engine(self, number: int) -> None:
        """End the engine there is as the signal would."""
        self.engine_pid()
        self._server.engine.process.send_signal(number)

    def exit_status(self) -> int:
        self._server.join(PATIENCE_S)
        assert not self._server.is_alive(), "the front has not left"
        return self._server.status

    def close(self) -> None:
        """End both and check everything they said."""
        self._server.leave()
        self.close_pipes()
        self.check()


class Server(threading.Thread):
    """The front's thread, which owns both descriptors. ``status`` is what a process would exit with.

    The engine gives ``engine_pid`` for the id of its process, by default that of ours.
    """

    def __init__(
        self,
        config: Config,
        stdin: int,
        stdout: socket.socket,
        extra: Iterable[Method[Any]] = (),
        engine_pid: int | None = None,
    ) -> None:
        super().__init__(name="front", daemon=True)
        self.status = -1
        self.engines: list[EngineThread] = []
        self._config, self._stdin, self._stdout, self._extra = config, stdin, stdout, extra
        self._engine_pid = os.getpid() if engine_pid is None else engine_pid
        self._loop = asyncio.new_event_loop()
        self._connection: Connection
        self._made = threading.Event()

    @property
    def engine(self) -> EngineThread:
        """The one that was started last."""
        return self.engines[-1]

    def leave(self) -> None:
        """Have it end as with SIGTERM, and wait until it has."""
        self._made.wait(PATIENCE_S)
        if self.is_alive():
            with suppress(RuntimeError):  # it has just left by itself
                self._loop.call_soon_threadsafe(self._connection.session.end, 143)
        self.join(PATIENCE_S)
        assert not self.is_alive(), "the front has not left"

    def run(self) -> None:
        root = logging.getLogger()
        handlers = root.handlers[:]
        try:
            self.status = self._loop.run_until_complete(self._serve())
        finally:
            root.handlers[:] = handlers
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.close()
            self._stdout.shutdown(socket.SHUT_RDWR)
            self._stdout.close()
            os.close(self._stdin)
            for engine in self.engines:
                engine.process.wait(PATIENCE_S)

    async def _serve(self) -> int:
        reader = Reader(self._stdin)
        async with Front(self._config, self._spawn(self._config), self._spawn) as front:
            self._connection = front.connect(reader, partial(Writer, self._stdout.fileno()), self._extra)
            self._made.set()
            reader.start()
            return await self._connection.run()

    def _spawn(self, config: Config) -> EngineThread:
        self.engines.append(engine_thread(config, self._engine_pid))
        return self.engine


@contextmanager
def pair(*options: str, framing: str = "lines", extra: Iterable[Method[Any]] = ()) -> Iterator[Pair]:
    """A pair that is gone, and whose every frame was valid, when the block ends; it serves ``extra`` methods too."""
    running = Pair(*options, framing=framing, extra=extra)
    try:
        yield running
    finally:
        running.close()
