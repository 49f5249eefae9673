"""The numerics under which faults are tried: exact ones, where the device has them, so that texts can be compared."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Collection
from functools import cache

from .traffic import Traffic

REFUSED = 3
# In a process of its own, because the first choice of products is a process's last one.
_SETTLE = f"""\
from mlx_sidecar_protocol.errors import UnsupportedParameter
from mlx_sidecar.engine.execution.backend_policy import settle
try:
    settle("exact")
except UnsupportedParameter:
    raise SystemExit({REFUSED})
"""
QUESTION = [sys.executable, "-P", "-c", _SETTLE]


@cache
def allows_exact() -> bool:
    """Return whether the engine takes ``--numerics exact`` on this machine; GPUs refuse it."""
    status = subprocess.run(QUESTION, check=False).returncode
    if status not in (0, REFUSED):
        raise RuntimeError(f"the engine's device could not be asked: status {status}")
    return status == 0


def numerics() -> tuple[str, str]:
    """Return the options of the strictest numerics that this machine has."""
    return ("--numerics", "exact" if allows_exact() else "fast")


def other_texts(differ: Collection[int], traffic: Traffic) -> list[str]:
    """Return what is wrong with requests that have another text than undisturbed: nothing under fast numerics.

    There the last bit of a product depends on the rows beside it.
    """
    return [f"request {n} has another text than undisturbed: {traffic[n]}" for n in differ] if allows_exact() else []
