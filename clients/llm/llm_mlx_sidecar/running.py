"""The sidecar of this process: started by its first request, ended with the process."""

from __future__ import annotations

import atexit
import threading
from contextlib import ExitStack

from mlx_sidecar_client import SyncSidecar

_lock = threading.Lock()
_stack = ExitStack()
_sidecar: SyncSidecar | None = None


def sidecar() -> SyncSidecar:
    """The sidecar, started if there is none. Threads share it.

    Raises:
        ExecutableNotFound: There is none to run; the message says what was tried.
        SidecarLost, OSError: It does not start.
    """
    global _sidecar
    with _lock:
        if _sidecar is None:
            _sidecar = _stack.enter_context(SyncSidecar.spawn())
        return _sidecar


@atexit.register
def close() -> None:
    """End the sidecar. The next request starts another."""
    global _sidecar
    with _lock:
        _sidecar = None
        _stack.close()
