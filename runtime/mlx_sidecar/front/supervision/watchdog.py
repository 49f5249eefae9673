"""The watchdog decides when a silent engine hangs. Pure: it is shown heartbeats and the time.

Only time in which the front was awake counts.
"""

from __future__ import annotations

from ...link.heartbeat_page import Snapshot

# Of a longer pause between two looks only this much counts, because the front may have been stopped or the machine
# asleep.
LONGEST_LOOK_S = 2.0


class Watchdog:
    """Sees a hang when an engine has work and its heartbeat has not changed for longer than its bound; one per engine.

    ``floor_s`` is the bound while no operation runs: during the start, and for messages not taken from the link.
    """

    def __init__(self, floor_s: float) -> None:
        self._floor_s = floor_s
        self._seen: Snapshot | None = None
        self._looked_at: float | None = None
        self._still_s = 0.0
        self._bound_s = floor_s

    @property
    def bound_s(self) -> float:
        """The bound in seconds, as of the last look."""
        return self._bound_s

    @property
    def still_s(self) -> float:
        """Seconds for which the heartbeat has not changed although there was work."""
        return self._still_s

    def look(self, seen: Snapshot, sent: int, now: float) -> bool:
        """Whether the engine hangs at ``now``, in seconds on a monotonic clock; ``sent`` messages were sent in all."""
        awake_s = 0.0 if self._looked_at is None else min(now - self._looked_at, LONGEST_LOOK_S)
        self._looked_at = now
        busy = seen.operating or seen.ids or seen.taken < sent  # ``ids`` without an operation: a step in flight
        self._still_s = self._still_s + awake_s if busy and seen == self._seen else 0.0
        self._seen = seen
        self._bound_s = seen.bound_s if seen.operating else self._floor_s
        return self._still_s > self._bound_s
