"""When an engine that says nothing is taken for hung. Pure: it is shown the page.

Only time in which we were awake counts.
"""

from __future__ import annotations

from ...link.heartbeat_page import Snapshot

# A front that was stopped itself, or a machine that slept, says nothing about the engine: of a longer pause between two
# looks only this much counts.
LONGEST_LOOK_S = 2.0


class Watchdog:
    """One per engine process. Something to do, and nothing that moves, for longer than it may take: that is a hang.

    ``floor_s`` is the bound where no operation runs: for the start, and for messages that nobody takes.
    """

    def __init__(self, floor_s: float) -> None:
        self._floor_s = floor_s
        self._seen: Snapshot | None = None
        self._looked_at: float | None = None
        self._still_s = 0.0
        self._bound_s = floor_s

    @property
    def bound_s(self) -> float:
        """How long nothing might move, as of the last look."""
        return self._bound_s

    @property
    def still_s(self) -> float:
        """For how long nothing has moved although there was something to do."""
        return self._still_s

    def look(self, seen: Snapshot, sent: int, now: float) -> bool:
        """Whether the engine hangs, as of ``now``. ``sent`` is how many messages it has been sent in all."""
        awake_s = 0.0 if self._looked_at is None else min(now - self._looked_at, LONGEST_LOOK_S)
        self._looked_at = now
        busy = seen.operating or seen.ids or seen.taken < sent  # what is in flight is waiting to be read
        self._still_s = self._still_s + awake_s if busy and seen == self._seen else 0.0
        self._seen = seen
        self._bound_s = seen.bound_s if seen.operating else self._floor_s
        return self._still_s > self._bound_s
