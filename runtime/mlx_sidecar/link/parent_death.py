"""Ends a process with its parent, by a signal that only Linux sends."""

from __future__ import annotations

import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def signal_with_parent(number: signal.Signals) -> bool:
    """Have the system send us signal ``number`` when the thread that started us ends; False if it cannot.

    The *thread* counts, whether or not its process goes on. The signal is sent again when the thread that inherits us
    ends. It is not sent for a parent that ended before this call: look at ``os.getppid`` afterwards. To be called in
    the main thread, because the setting ends with its thread.
    """
    if sys.platform != "linux":
        return False
    import ctypes  # some milliseconds of start-up

    status: int = ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(number), 0, 0, 0)
    return status == 0


def die_with(parent: int) -> None:
    """Have this process be killed with ``parent``, even if it hangs or is stopped.

    ``parent`` must have started it from a thread that lives as long as ``parent``. Elsewhere than on Linux this only
    exits if ``parent`` is gone already.
    """
    signal_with_parent(signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)
