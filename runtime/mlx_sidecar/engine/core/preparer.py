"""What must be there before a sequence is admitted, and is brought while it waits."""

from __future__ import annotations

from collections.abc import Iterable
from math import inf

from .sequence import Sequence


class Preparer:
    """A preparer sets sequences aside until something that it brings or waits for is there.

    A sequence that is set aside stands in the queue without being admitted. It waits until ``ready`` names it, or until
    it ``left``. A preparer that has no part in one of these has nothing to say there, as the methods here do.
    """

    name: str  # unique among preparers

    def check(self, sequence: Sequence) -> None:
        """Raise the error, an ``RpcError``, with which ``sequence`` is refused because it could never be prepared."""

    def arrived(self, sequence: Sequence, now: float) -> bool:
        """``sequence`` has come into the queue; whether it is to be set aside."""
        return False

    def told(self, event: object, now: float) -> None:
        """A background thread has told ``event``, which may be for another preparer."""

    def holds_back(self, candidate: Sequence, now: float) -> bool:
        """Whether ``candidate``, for which there is a place, is to be set aside instead."""
        return False

    def ready(self, now: float) -> Iterable[Sequence]:
        """The sequences whose wait is over, each once. Called once a turn."""
        return ()

    def left(self, sequence: Sequence) -> None:
        """``sequence`` has left the queue for good, perhaps while it was set aside."""

    def next_event_s(self) -> float:
        """When ``ready`` must be called even if nothing happens, on the engine's clock; infinite if never."""
        return inf
