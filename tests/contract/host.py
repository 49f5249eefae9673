"""A sidecar with the fake engine, for a host that cuts its bytes anywhere and reads when it likes."""

from __future__ import annotations

import tempfile

import psutil

from tests.support.byte_host import ByteHost
from tests.support.sidecar import serve

PIPE_BYTES = 4096  # small, so that the sidecar soon notices a host that does not read


class Host(ByteHost):
    """One process."""

    def __init__(self, framing: str, *options: str) -> None:
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed by kill
        self.process = serve("--engine", "fake", *options, stderr=self._stderr, pipe_bytes=PIPE_BYTES)
        assert self.process.stdin
        assert self.process.stdout
        super().__init__(self.process.stdin, self.process.stdout, framing)

    def engines(self) -> list[psutil.Process]:
        """Return living engines of this sidecar, also after its end."""
        mine = ["--parent", str(self.process.pid)]
        processes = ((process, process.info["cmdline"] or []) for process in psutil.process_iter(["cmdline"]))
        return [process for process, words in processes if mine in [words[at : at + 2] for at in range(len(words))]]

    def complaints(self) -> str:
        """Return the sidecar's standard error."""
        self._stderr.seek(0)
        return self._stderr.read().decode(errors="replace")

    def kill(self) -> None:
        """Kill the sidecar, if it runs, and close its pipes."""
        self.process.kill()
        self.process.wait()
        self.close_pipes()
        self._stderr.close()
