"""A fake engine whose step loop runs on a thread of this process, and dies as a process would."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
from typing import NoReturn, cast

import msgspec

from mlx_sidecar.config import Config
from mlx_sidecar.engine import __main__ as engine_main
from mlx_sidecar.engine.assembly import assemble
from mlx_sidecar.engine.fake import fake_engine
from mlx_sidecar.engine.inbox import Inbox
from mlx_sidecar.engine.outbox import LinkOutbox
from mlx_sidecar.engine.scheduling.scheduler import Limits
from mlx_sidecar.front.supervision.engine_process import EngineProcess
from mlx_sidecar.link.heartbeat_page import HeartbeatPage
from mlx_sidecar.link.messages import ToEngine
from mlx_sidecar.machine_memory import machine_limit_bytes


class EngineThread(EngineProcess):
    """The thread in place of an engine process, as the front holds it."""

    def kill(self) -> None:
        """Have it end, without waiting for that."""
        self.process.kill()


class _Over(BaseException):
    """Ends the step loop's thread, as a death ends a process."""


class _Inbox(Inbox):
    """Wakes the step loop where that of a process would end the process."""

    over = False

    def end(self) -> None:
        self.over = True
        self.put("the end")

    def take(self, timeout_s: float) -> list[ToEngine]:  # type: ignore[override]  # the fake engine has no disk
        messages = super().take(timeout_s)
        if self.over:
            raise _Over
        return cast("list[ToEngine]", messages)

    def _listen(self) -> None:
        self._read_to_the_end()
        self.end()


class LoopThread(fake_engine.Process):
    """The thread, with what ``Popen`` has for a process. It ends by itself once the front closes the link."""

    def __init__(self, config: Config, link: socket.socket, page: HeartbeatPage, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._status = 0  # to leave with
        self._config, self._link, self._page = config, link, page
        self._ended = threading.Event()
        self._inbox = _Inbox(link)
        self._ears = threading.Thread(target=self._inbox._listen, name="fake engine's inbox", daemon=True)
        self._thread = threading.Thread(target=self._run, name="fake engine", daemon=True)
        self._ears.start()
        self._thread.start()

    # The interface of Popen.

    def poll(self) -> int | None:
        return self.returncode

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def send_signal(self, number: int) -> None:
        """End it by the signal ``number``."""
        self._status = self._status or -number
        self._inbox.end()
        self._ended.set()

    def wait(self, timeout: float | None = None) -> None:
        """Until the thread has ended."""
        self._thread.join(timeout)
        assert not self._thread.is_alive(), "the fake engine has not ended"

    # Actions of the script on its process.

    def crash(self) -> NoReturn:
        self._status = fake_engine.CRASH_STATUS
        raise _Over

    def hang(self) -> NoReturn:
        self._ended.wait()
        raise _Over

    def _run(self) -> None:
        try:
            self._serve()
        except (_Over, ConnectionError):
            pass  # it was killed, it crashed, or the front is gone
        finally:
            self.returncode = self._status
            self._link.shutdown(socket.SHUT_RDWR)  # which ends the ears as well
            self._ears.join()
            self._link.close()
            self._page.close()

    def _serve(self) -> None:
        backend, limits = fake_engine.FakeBackend(self), Limits()
        limit_bytes = self._config.memory_limit_bytes or machine_limit_bytes()
        outbox = LinkOutbox(self._link)
        engine = assemble(
            outbox,
            self._inbox,
            backend,
            limits,
            limit_bytes,
            page=self._page,
            stall_after_s=self._config.stall_after_s,
        )
        ready = engine_main._ready(backend, self._config.numerics, limit_bytes, limits)
        outbox.send([msgspec.structs.replace(ready, pid=self.pid)])
        engine.run()


def engine_thread(config: Config, pid: int) -> EngineThread:
    """Start one, as ``spawn`` starts a process; it gives ``pid`` for the id of its process."""
    page = HeartbeatPage.create()
    ours, theirs = socket.socketpair()
    thread = LoopThread(config, theirs, HeartbeatPage(os.dup(page.fd)), pid)
    return EngineThread(cast("subprocess.Popen[bytes]", thread), ours, page)
