"""A worker holds one text process on the event loop, from its start to its end."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress

from mlx_sidecar_protocol.errors import InternalError

from ...config import Config
from ...containment import contained
from ...link.codec import Decoder, LinkCorrupt, Unreadable, encode
from ...link.faults import fault_of
from ...link.text_messages import FromText, TextRefused, ToText
from ...machine_memory import machine_limit_bytes
from .engine_process import child_environment

END_BOUND_S = 5.0  # after a SIGKILL; a process that is still there hangs in the kernel and cannot be waited for
CLOSE_BOUND_S = 0.5  # the same when the front leaves, which has killed all of them before
MEMORY_LIMIT_BYTES = 4 << 30  # of address space; the largest tokenizers in use take a tenth

_LOOK_EVERY_S = 0.005  # between two looks whether a killed process is gone

log = logging.getLogger(__name__)


def spawn(config: Config) -> tuple[subprocess.Popen[bytes], socket.socket]:
    """Start a text process without waiting for it; returns it and our end of its link.

    It gets the environment that the engine gets, and no descriptor but its link. To be called in a thread that lives
    as long as the front, because Linux ends the process with the thread that started it.

    Raises OSError if the system gives no process or no descriptors.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with theirs:
        try:
            process = subprocess.Popen(
                _command(config, theirs.fileno()),
                stdin=subprocess.DEVNULL,
                stdout=2,
                pass_fds=[theirs.fileno()],
                env=child_environment(),
                start_new_session=True,
            )
        except OSError:
            ours.close()
            raise
    return process, ours


def _command(config: Config, link_fd: int) -> list[str]:
    # -P: modules are not searched for in the host's working directory.
    command = [sys.executable, "-P", "-m", "mlx_sidecar.text"]
    memory_bytes = min(MEMORY_LIMIT_BYTES, max(MEMORY_LIMIT_BYTES // 4, machine_limit_bytes() // 4))
    command += ["--fd", str(link_fd), "--parent", str(os.getpid()), "--log-level", config.log_level]
    command += ["--memory-limit-bytes", str(memory_bytes)]
    if config.trust_remote_code:
        command.append("--trust-remote-code")
    return command


class TextWorker(asyncio.Protocol):
    """One text process, which answers requests one at a time, so that its death is always the present request's.

    ``on_answer`` gets each message of the process. ``on_end`` is called once it is gone, with the reason in words.
    """

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        on_answer: Callable[[TextWorker, FromText], None],
        on_end: Callable[[TextWorker, str], None],
    ) -> None:
        self._process = process
        self._on_answer = on_answer
        self._on_end = on_end
        self._decoder: Decoder[FromText] = Decoder(FromText)  # type: ignore[arg-type]  # a union is not a type[T]
        self._transport: asyncio.Transport | None = None
        self._killed_because: str | None = None
        self._attaching: asyncio.Task[object] | None = None
        self._ending: asyncio.Task[None] | None = None
        self.forced = False  # ended by a SIGKILL that was not ours
        self.ready = False  # said TextReady; set by the pool

    def attach(self, link: socket.socket) -> None:
        """Connect the event loop to ``link``; the process is ended if that fails."""
        loop = asyncio.get_running_loop()
        self._attaching = loop.create_task(loop.create_connection(lambda: self, sock=link))
        self._attaching.add_done_callback(self._attached)

    def _attached(self, attaching: asyncio.Task[object]) -> None:
        if not attaching.cancelled() and attaching.exception() is not None:
            self.connection_lost(None)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        try:
            messages = self._decoder.feed(data)
        except LinkCorrupt as error:  # the process may run a model's own code
            self.kill(f"it said what cannot be read: {error}")
            return
        for message in messages:
            with contained(log, "an answer of a text process could not be taken in"):
                self._on_answer(self, _readable(message))

    def connection_lost(self, exc: Exception | None) -> None:
        self._ending = asyncio.get_running_loop().create_task(self._wait_ended())

    def ask(self, message: ToText) -> None:
        assert self._transport is not None
        self._transport.write(encode(message))

    def kill(self, because: str) -> None:
        """Kill the process; ``on_end`` follows."""
        self._killed_because = self._killed_because or because
        self._process.kill()
        if self._transport is not None:
            self._transport.abort()  # a child of the process may hold the other end open

    @property
    def killed(self) -> bool:
        """Whether ``kill`` was called."""
        return self._killed_because is not None

    def close(self) -> None:
        """Kill the process and wait for its end, at most ``CLOSE_BOUND_S``."""
        self._process.kill()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(CLOSE_BOUND_S)
        if self._transport is not None:
            self._transport.abort()

    @property
    def pid(self) -> int:
        return self._process.pid

    async def _wait_ended(self) -> None:
        """Wait until the process has ended, without a thread, and call ``on_end``; one of gigabytes takes a while."""
        self._process.kill()  # it has closed its link, but may hang on its way out
        loop = asyncio.get_running_loop()
        until_s = loop.time() + END_BOUND_S
        while (code := self._process.poll()) is None and loop.time() < until_s:
            await asyncio.sleep(_LOOK_EVERY_S)
        self.forced = code == -signal.SIGKILL and not self.killed
        self._on_end(self, self._killed_because or _ended_because(code))


def _readable(message: FromText | Unreadable) -> FromText:
    """``message``, or a refusal in place of an answer that cannot be read."""
    if isinstance(message, Unreadable):
        return TextRefused(message.op or 0, fault_of(InternalError()))
    return message


def _ended_because(code: int | None) -> str:
    if code is None:
        return "it cannot be ended"
    if code == -signal.SIGXCPU:
        return "it did not come to an end"
    if code < 0:
        return f"it was ended by {signal.Signals(-code).name}"
    return f"it left with status {code}"
