"""The system's own notice that the process that started us is gone. Only Linux gives one."""

from __future__ import annotations

import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def signal_with_parent(number: signal.Signals) -> bool:
    """Have the system send us ``number`` when the thread that started us ends; False where it cannot.

    The *thread*, whether or not its process goes on. It is sent again when the thread that inherits us ends. A parent
    that ended before this call is not told of: look at ``os.getppid`` afterwards. Only for the main thread: what
    another one asks for ends with it.
    """
    if sys.platform != "linux":
        return False
    import ctypes  # some milliseconds of start-up

    status: int = ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(number), 0, 0, 0)
    return status == 0


def die_with(parent: int) -> None:
    """End with ``parent``, however hung or stopped we are by then. It must have started us from a thread that lives as
    long as it does. Elsewhere than on Linux this does no more than look whether ``parent`` is gone already.
    """
    signal_with_parent(signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)
