"""A real sidecar over real pipes, for tests. Every frame it sends is checked against the committed schema."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from .byte_host import PATIENCE_S
from .host import Host

ROOT = Path(__file__).parents[2]


MLX_SIDECAR = ("-m", "mlx_sidecar")


def serve(
    *options: str,
    stderr: int | IO[bytes] | None = None,
    pipe_bytes: int | None = None,
    program: tuple[str, ...] = MLX_SIDECAR,
) -> subprocess.Popen[bytes]:
    """Start ``mlx-sidecar serve``, or what Python runs as ``program``, with pipes that have no buffer on our side.

    Where the system allows it ``pipe_bytes`` of its output wait in the pipe, so that a host that does not read is felt.
    """
    command = [sys.executable, *program, "serve", *options]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, cwd=ROOT, bufsize=0
    )
    if pipe_bytes is not None and hasattr(fcntl, "F_SETPIPE_SZ"):
        assert process.stdout
        fcntl.fcntl(process.stdout, fcntl.F_SETPIPE_SZ, pipe_bytes)
    return process


class Sidecar(Host):
    """One process. Frames are collected by a thread; tests wait for the ones they expect."""

    def __init__(
        self,
        *options: str,
        framing: str = "lines",
        stderr: int | None = None,
        pipe_bytes: int | None = None,
        program: tuple[str, ...] = MLX_SIDECAR,
    ) -> None:
        self.process = serve(*options, stderr=stderr, pipe_bytes=pipe_bytes, program=program)
        assert self.process.stdin
        assert self.process.stdout
        super().__init__(self.process.stdin, self.process.stdout, framing)

    def signal_engine(self, number: int = signal.SIGKILL, pid: int | None = None) -> None:
        """Send the engine a signal, at once if its ``pid`` is known already."""
        os.kill(self.engine_pid() if pid is None else pid, number)

    def exit_status(self) -> int:
        return self.process.wait(PATIENCE_S)

    def close(self) -> None:
        """End the process and check everything it said."""
        self.process.kill()
        self.process.wait()
        self.close_pipes()
        self.check()


@contextmanager
def sidecar(
    *options: str, framing: str = "lines", pipe_bytes: int | None = None, program: tuple[str, ...] = MLX_SIDECAR
) -> Iterator[Sidecar]:
    """A sidecar that is gone, with all its frames valid, when the block ends."""
    running = Sidecar(*options, framing=framing, pipe_bytes=pipe_bytes, program=program)
    try:
        yield running
    finally:
        running.close()
