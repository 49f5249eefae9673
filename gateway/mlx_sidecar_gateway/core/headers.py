"""The gateway's own headers, which any request that generates may have."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from typing import Any, Final

from ..surfaces.faults import Refused
from .caller import Caller
from .keys import PRIORITIES

PRIORITY: Final = "x-mlx-sidecar-priority"
DEADLINE: Final = "x-mlx-sidecar-deadline-s"
EXPLAIN_CACHE: Final = "x-mlx-sidecar-explain-cache"

NAMES: Final = {"priority": PRIORITY, "deadline_s": DEADLINE, "explain_cache": EXPLAIN_CACHE}
"""The header of each option of the sidecar that comes by one."""


def options_of(headers: Mapping[str, str], caller: Caller) -> dict[str, Any]:
    """The options that the headers, and the caller's key, ask for. Raises ``Refused`` naming the header."""
    options: dict[str, Any] = {"priority": caller.priority(_priority(headers.get(PRIORITY)), PRIORITY)}
    if (deadline := headers.get(DEADLINE)) is not None:
        options["deadline_s"] = _seconds(deadline)
    if _switch(headers.get(EXPLAIN_CACHE, "0")):
        options["explain_cache"] = True
    return options


def _priority(value: str | None) -> str | None:
    if value is not None and value not in PRIORITIES:
        raise Refused.parameter(PRIORITY, f"must be {', '.join(PRIORITIES[:-1])} or {PRIORITIES[-1]}, not {value!r}")
    return value


def _seconds(value: str) -> float:
    try:
        seconds = float(value)
    except ValueError:
        seconds = 0.0
    if not isfinite(seconds) or seconds <= 0:
        raise Refused.parameter(DEADLINE, f"{value!r} is not a positive number of seconds")
    return seconds


def _switch(value: str) -> bool:
    if value not in ("0", "1"):
        raise Refused.parameter(EXPLAIN_CACHE, f"must be 0 or 1, not {value!r}")
    return value == "1"
