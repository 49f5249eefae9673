"""A host that is there to be killed: ``Mortal`` starts it, it starts a sidecar, follows its plan and waits.

The host is this module as a program: it reads commands on stdin and writes to stdout when they are done.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Literal, Self

import psutil

ROOT = Path(__file__).parents[2]
Until = Literal["spawned", "ready", "streaming"]


@dataclass(frozen=True)
class Plan:
    """The host's work before it waits. ``model`` is asked for a stream; ``until`` names the state at which it waits."""

    engine: Literal["fake", "mlx"] = "fake"
    until: Until = "streaming"
    model: str = "fake?tokens=100000&context=200000&delay_ms=5"
    in_thread: bool = False  # the sidecar is started by a thread that has ended by then
    as_daemon: bool = False  # the host is in a session of its own, its parent long gone
    leaks: bool = False  # a process that outlives the host has both pipe ends too
    reads: bool = True  # goes on reading; a pipe that is to be closed later must not be read


class Mortal:
    """A host process, its sidecar, and other holders of the pipes. No process is left after the block.

    Temporary files go into ``folder``.
    """

    def __init__(self, plan: Plan, folder: Path) -> None:
        self._plan = plan
        self._folder = folder
        self._seen: set[int] = set()  # engines, each the leader of a session

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "benchmarks.faults.mortal", json.dumps(asdict(self._plan))]
        environment = {**os.environ, "TMPDIR": str(self._folder)}
        self._process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        told = self._hear()
        self.host = psutil.Process(told["host"])
        self.front = psutil.Process(told["front"])
        self.leak = psutil.Process(told["leak"]) if "leak" in told else None
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        for process in filter(None, [self.host, self.leak, *self.sidecar()]):
            if alive(process):
                process.kill()
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()

    def sidecar(self) -> list[psutil.Process]:
        """Return the living processes of front and engines, also those that engines started: mlx runs a compiler."""
        self.engines()
        return [*filter(alive, [self.front]), *(one for one in psutil.process_iter() if _session(one) in self._seen)]

    def engines(self) -> list[psutil.Process]:
        """Return the front's living engines, also those with another parent by now, and its text processes."""
        ours = ["--parent", str(self.front.pid)]
        found = []
        for process in psutil.process_iter(["cmdline"]):
            command = process.info["cmdline"] or []  # none: one that has ended, or not ours to see
            if ours in (command[at : at + 2] for at in range(len(command))):
                found.append(process)
        # Between fork and exec it is a copy of the front, and not yet in a session of its own.
        self._seen |= {process.pid for process in found}
        return found

    def engine(self) -> psutil.Process:
        while not (found := [one for one in self.engines() if "mlx_sidecar.engine" in one.info["cmdline"]]):
            assert alive(self.front), "the front has ended"
        return found[0]

    def tell(self, command: Literal["ping", "close"]) -> None:
        """``ping`` the sidecar, or ``close`` both pipes to it; returns when that is done."""
        assert self._process.stdin
        self._process.stdin.write(command.encode() + b"\n")
        self._process.stdin.flush()
        self._hear()

    def _hear(self) -> dict[str, Any]:
        assert self._process.stdout
        line = self._process.stdout.readline()
        assert line, "the host ended on its own"
        told: dict[str, Any] = json.loads(line)
        return told


def alive(process: psutil.Process) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _session(process: psutil.Process) -> int | None:
    """The session of a process that is alive."""
    try:
        return os.getsid(process.pid) if alive(process) else None
    except (ProcessLookupError, PermissionError):
        return None


# From here on: the program.


@dataclass
class _Running:
    """The program's sidecar."""

    plan: Plan
    pongs: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))

    def start(self) -> None:
        """Start the sidecar and follow the plan."""
        command = [sys.executable, "-m", "mlx_sidecar", "serve", "--engine", self.plan.engine]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT)
        if self.plan.until == "spawned":
            return
        self.say("initialize", {"protocol_version": 1, "client": {"name": "mortal"}}, 1)
        self.say("generate", {"model": self.plan.model, "prompt": "x", "stream": "s", "ignore_eos": True}, 2)
        sought = b"stream/delta" if self.plan.until == "streaming" else b'"ready"'
        while sought not in self.stdout.readline():
            pass

    @property
    def stdin(self) -> IO[bytes]:
        assert self.process.stdin
        return self.process.stdin

    @property
    def stdout(self) -> IO[bytes]:
        assert self.process.stdout
        return self.process.stdout

    def say(self, method: str, params: dict[str, Any], id_: int) -> None:
        self.stdin.write(json.dumps({"jsonrpc": "2.0", "id": id_, "method": method, "params": params}).encode() + b"\n")
        self.stdin.flush()

    def read_on(self) -> None:
        for line in self.stdout:
            if b'"id":3,' in line:
                self.pongs.release()

    def leak(self) -> subprocess.Popen[bytes]:
        fds = [self.stdin.fileno(), self.stdout.fileno()]
        return subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"], pass_fds=fds)


def _become_daemon() -> None:
    """Go on as the child of the leader of a session, and let the leader end, as daemons do."""
    if os.fork():
        os._exit(0)
    os.setsid()
    if os.fork():
        os._exit(0)


def main() -> None:
    plan = Plan(**json.loads(sys.argv[1]))
    if plan.as_daemon:
        _become_daemon()
    running = _Running(plan)
    if plan.in_thread:
        thread = threading.Thread(target=running.start)
        thread.start()
        thread.join()
    else:
        running.start()
    told = {"host": os.getpid(), "front": running.process.pid}
    if plan.leaks:
        told["leak"] = running.leak().pid
    if plan.reads:
        threading.Thread(target=running.read_on, daemon=True).start()
    _say(told)
    for command in sys.stdin:
        if command == "ping\n":
            running.say("ping", {}, 3)
            running.pongs.acquire()
        else:
            running.stdin.close()
            running.stdout.close()
        _say({})
    signal.pause()


def _say(told: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(told) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
