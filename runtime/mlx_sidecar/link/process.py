"""Starting and ending the engine process. Imports little: it runs before the front has imported anything heavy."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import dataclass

from ..config import Config


@dataclass(frozen=True)
class EngineProcess:
    """A started engine and our end of its link. The engine leaves when the link closes, however we die."""

    process: subprocess.Popen[bytes]
    link: socket.socket

    @property
    def exit_reason(self) -> str:
        """How it ended, in words. Waits for the end, which must be near."""
        code = self.process.wait()
        return f"killed by signal {-code}" if code < 0 else f"exited with status {code}"

    def kill(self) -> None:
        """End it now and reap it."""
        self.process.kill()
        self.process.wait()


def spawn(config: Config) -> EngineProcess:
    """Start an engine; does not wait for it. Its stdout and stderr are our stderr, its stdin is empty.

    Raises OSError if the system gives no process or no descriptors.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    # Room for a burst of events while the front is busy; the system may grant less.
    for end in (ours, theirs):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    # -P: the host's working directory is not searched for modules, whatever it holds.
    command = [sys.executable, "-P", "-m", "mlx_sidecar.engine", "--fd", str(theirs.fileno())]
    command += ["--engine", config.engine, "--numerics", config.numerics, "--log-level", config.log_level]
    if config.memory_limit_bytes is not None:
        command += ["--memory-limit-bytes", str(config.memory_limit_bytes)]
    if config.trace is not None:
        command += ["--trace", config.trace]
    with theirs, ExitStack() as on_failure:
        on_failure.callback(ours.close)
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=2,
            pass_fds=[theirs.fileno()],
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
            # Ctrl-C in a terminal goes to the whole group; the front decides what it means.
            start_new_session=True,
        )
        on_failure.pop_all()
    return EngineProcess(process, ours)
