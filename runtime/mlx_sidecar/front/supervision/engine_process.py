"""Starting the engine process, and how it ended. Imports little: it runs before the front imports anything heavy."""

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
    """A started engine, our end of its link, and the page it notes its work on.

    The engine leaves when the link closes, however we die. Nothing here waits: a process that is stuck in the system
    may take as long as it likes to end.
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
        """How it ended, in words, or that it has not."""
        code = self.process.poll()
        if code is None:
            return "it has not ended"
        if code >= 0:
            return f"exited with status {code}"
        starved = ", for want of memory as it seems" if self.starved else ""
        return f"killed by signal {-code}{_named(-code)}{starved}"

    @property
    def forced(self) -> bool:
        """Whether it ended by a signal that comes from others: somebody, or the kernel for want of memory."""
        return self.process.poll() in _FROM_OTHERS

    @property
    def starved(self) -> bool:
        """Whether it was killed, and the kernel has killed for want of memory since it was started."""
        return self.process.poll() == -signal.SIGKILL and oom_kills() > self.oom_kills

    def kill(self) -> None:
        """Have it end, and what it has started, without waiting for that."""
        if self.process.returncode is None:  # until it has been waited for, its group is no other's
            # mlx runs compilers, which outlive it by seconds; asked to end, they take their temporary files along.
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, signal.SIGTERM)
        self.process.kill()

    def discard(self) -> None:
        """Have it end; nobody has attached to it, and nobody will."""
        self.kill()
        self.link.close()
        self.page.close()


def _named(number: int) -> str:
    try:
        return f" ({signal.Signals(number).name})"
    except ValueError:  # most real-time signals have no name
        return ""


def spawn(config: Config) -> EngineProcess:
    """Start an engine; does not wait for it. Its stdout and stderr are our stderr, its stdin is empty.

    Of our descriptors and our environment it inherits what it needs. To be called in a thread that lives as long as
    the front: Linux ends the engine with the thread that started it.

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
                # Ctrl-C in a terminal goes to the whole group; the front decides what it means.
                start_new_session=True,
            )
        on_failure.pop_all()
    return EngineProcess(process, ours, page)


def child_environment() -> dict[str, str]:
    """What a process that we start gets of our environment, with a temporary folder that nobody else can write."""
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
# NVIDIA_API_KEY has a prefix that is let through, and is a secret all the same.
_SECRETS = {"TOKEN", "TOKENS", "KEY", "KEYS", "SECRET", "SECRETS", "PASSWORD", "PASSWD", "CREDENTIAL", "CREDENTIALS"}


def environment(of: Mapping[str, str]) -> dict[str, str]:
    """What the engine needs of ``of`` to find Python, libraries, a device and a cache folder.

    Everything else stays out, above all what gives access to something: the engine runs code that models bring and
    never needs the network.
    """
    passed = {name: value for name, value in of.items() if _is_needed(name) and not _is_secret(name)}
    return {**passed, "PYTHONUNBUFFERED": "1"}


def _is_needed(name: str) -> bool:
    return name in _NAMES or name.startswith(_PREFIXES)


def _is_secret(name: str) -> bool:
    return not _SECRETS.isdisjoint(name.upper().split("_"))
