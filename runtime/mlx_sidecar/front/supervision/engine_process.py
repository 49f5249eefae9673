"""This module starts the engine and tells how it ended; it imports little, to run before all heavy imports."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, field

from ...config import Config
from ...link.engine_config import EngineConfig
from ...link.heartbeat_page import HeartbeatPage
from .oom_kills import oom_kills
from .private_folder import private_folder

_FROM_OTHERS = [-signal.SIGKILL, -signal.SIGTERM, -signal.SIGINT, -signal.SIGHUP]


@dataclass(frozen=True)
class EngineProcess:
    """A started engine process, our end of its link, and its heartbeat page.

    The engine leaves when the link closes, however the front dies. Nothing here waits for the process, because one
    that hangs in the kernel may never end.
    """

    process: subprocess.Popen[bytes]
    link: socket.socket
    page: HeartbeatPage
    oom_kills: int = field(default_factory=lambda: oom_kills())  # when it was started

    @property
    def ended(self) -> bool:
        return self.process.poll() is not None

    @property
    def exit_reason(self) -> str:
        """How the process ended, in words, or that it has not."""
        code = self.process.poll()
        if code is None:
            return "it has not ended"
        if code >= 0:
            return f"exited with status {code}"
        starved = ", for want of memory as it seems" if self.starved else ""
        return f"killed by signal {-code}{_named(-code)}{starved}"

    @property
    def forced(self) -> bool:
        """Whether it ended by a signal from outside: of a person, a program, or the kernel's OOM killer."""
        return self.process.poll() in _FROM_OTHERS

    @property
    def starved(self) -> bool:
        """Whether it was killed, and the kernel has killed some process for want of memory since it was started."""
        return self.process.poll() == -signal.SIGKILL and oom_kills() > self.oom_kills

    def kill(self) -> None:
        """Kill the process and its children, without waiting for their end."""
        if self.process.returncode is None:  # until it was waited for, its process group has no other owner
            # mlx runs compilers, which outlive it by seconds; on SIGTERM they remove their temporary files.
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, signal.SIGTERM)
        self.process.kill()

    def discard(self) -> None:
        """Kill an engine that no connection is attached to, and close link and page."""
        self.kill()
        self.link.close()
        self.page.close()


def _named(number: int) -> str:
    try:
        return f" ({signal.Signals(number).name})"
    except ValueError:  # most real-time signals have no name
        return ""


def spawn(config: Config) -> EngineProcess:
    """Start an engine without waiting for it. Its stdout and stderr are our stderr, its stdin is empty.

    It inherits only the descriptors of link and page, and the environment that it needs. To be called in a thread that
    lives as long as the front, because Linux ends the engine with the thread that started it.

    Raises OSError if the system gives no process, no descriptors or no folder.
    """
    with ExitStack() as on_failure:
        page = HeartbeatPage.create()
        on_failure.callback(page.close)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        on_failure.callback(ours.close)
        with theirs:
            # Room for a burst of events while the front is busy; the system may grant less.
            for end in (ours, theirs):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
            process = subprocess.Popen(
                engine_command(config.of_engine, theirs.fileno(), page.fd),
                stdin=subprocess.DEVNULL,
                stdout=2,
                pass_fds=[theirs.fileno(), page.fd],
                env=child_environment(),
                # Out of the terminal's process group, because Ctrl-C is for the front to handle.
                start_new_session=True,
            )
        on_failure.pop_all()
    return EngineProcess(process, ours, page)


def child_environment() -> dict[str, str]:
    """The environment for a child process, with a temporary folder that no other user can write."""
    return {**environment(os.environ), **dict.fromkeys(("TMPDIR", "TEMP", "TMP"), private_folder())}


def engine_command(config: EngineConfig, link_fd: int, page_fd: int) -> list[str]:
    """The command that starts an engine as ``config`` says."""
    # -P: the host's working directory is not searched for modules, whatever it holds.
    command = [sys.executable, "-P", "-m", "mlx_sidecar.engine"]
    command += ["--fd", str(link_fd), "--page-fd", str(page_fd), "--parent", str(os.getpid())]
    return [*command, "--config", json.dumps(asdict(config))]


_FOR_PYTHON = ("PYTHON", "COVERAGE_")
_FOR_LIBRARIES = ("DYLD_", "OPENBLAS_", "OMP_", "MKL_", "VECLIB_", "TRANSFORMERS_")
_FOR_DEVICES = ("MLX_", "METAL_", "MTL_", "CUDA_", "NVIDIA_", "NCCL_")
_PREFIXES = ("LC_", "XDG_", *_FOR_PYTHON, *_FOR_LIBRARIES, *_FOR_DEVICES)
_NAMES = {
    *("PATH", "HOME", "TMPDIR", "TEMP", "TMP", "USER", "LOGNAME", "LANG", "LANGUAGE", "TZ"),
    *("LD_LIBRARY_PATH", "VIRTUAL_ENV", "CONDA_PREFIX"),
    *("TOKENIZERS_PARALLELISM", "HF_HOME", "HF_HUB_CACHE", "HF_HUB_OFFLINE"),
}
# E.g. NVIDIA_API_KEY, which has a prefix that is let through.
_SECRETS = {"TOKEN", "TOKENS", "KEY", "KEYS", "SECRET", "SECRETS", "PASSWORD", "PASSWD", "CREDENTIAL", "CREDENTIALS"}


def environment(of: Mapping[str, str]) -> dict[str, str]:
    """The variables of ``of`` with which the engine finds Python, libraries, a device and a cache folder.

    Everything else stays out, above all credentials, because the engine may run code that comes with models.
    """
    passed = {name: value for name, value in of.items() if _is_needed(name) and not _is_secret(name)}
    return {**passed, "PYTHONUNBUFFERED": "1"}


def _is_needed(name: str) -> bool:
    return name in _NAMES or name.startswith(_PREFIXES)


def _is_secret(name: str) -> bool:
    return not _SECRETS.isdisjoint(name.upper().split("_"))
