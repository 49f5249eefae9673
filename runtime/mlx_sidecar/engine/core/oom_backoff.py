"""After a failed allocation the engine holds less memory for a while; then it tries again to use all of it.

Pure: time is a number.
"""

from __future__ import annotations

import re
from math import inf

from mlx_sidecar_protocol.errors import OutOfMemory

LASTS_S = 30.0
LONGEST_S = 900.0  # a guard that stays is worse than a long prefill that is begun again
# mlx raises: "[malloc] Unable to allocate N bytes", "[metal::malloc] Attempting to allocate N bytes which is …",
# "cudaMallocAsync(…) failed: out of memory", "Command buffer execution failed: Insufficient Memory".
_ALLOCATION = re.compile(r"malloc.* allocate (\d+) bytes|out of memory|insufficient memory", re.IGNORECASE)


def out_of_memory(error: BaseException, free_bytes: int) -> OutOfMemory | None:
    """Return ``error``, or its cause, as an allocation that failed; None if it is something else.

    ``free_bytes`` are free by the ledger, but the device had less than was asked of it. The bytes asked for count as 0
    where the error does not tell them.
    """
    if isinstance(error, OutOfMemory):
        return error
    wanted = _ALLOCATION.search(str(error))
    if wanted is not None or isinstance(error, MemoryError):
        need_bytes = int(wanted[1] or 0) if wanted is not None else 0
        return OutOfMemory(need_bytes=need_bytes, have_bytes=max(0, min(free_bytes, need_bytes - 1)))
    return None if error.__cause__ is None else out_of_memory(error.__cause__, free_bytes)


class OomBackoff:
    """A limit on held bytes for a while: ``limit_bytes``, None while there is none, in force until ``until_s``."""

    def __init__(self) -> None:
        self.limit_bytes: int | None = None
        self.until_s = inf
        self._lasts_s = LASTS_S
        self._lifted_s = -inf

    def lower(self, held_bytes: int, less_bytes: int, now: float) -> None:
        """Set the limit ``less_bytes`` below ``held_bytes``, which were held when an allocation failed."""
        limit_bytes = max(0, held_bytes - less_bytes)
        if self.limit_bytes is None:
            # After a failure soon after the lift, the memory is still not there. To find that out costs all sequences
            # their caches. So it is tried half as often each time, and a prompt of any length gets through in between.
            again = now < self._lifted_s + self._lasts_s
            self._lasts_s = min(LONGEST_S, 2 * self._lasts_s) if again else LASTS_S
        else:
            limit_bytes = min(limit_bytes, self.limit_bytes)
        self.limit_bytes = limit_bytes
        self.until_s = now + self._lasts_s

    def lift(self, now: float) -> None:
        """Lift the limit if its time is over."""
        if now >= self.until_s:
            self.limit_bytes, self.until_s, self._lifted_s = None, inf, now
