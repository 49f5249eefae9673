"""A preparer brings something that a sequence needs before it is admitted, while the sequence waits."""

from __future__ import annotations

from collections.abc import Iterable
from math import inf
from typing import NamedTuple

from ...link.messages import Fault, FinishReason
from .sequence import Sequence


class Ending(NamedTuple):
    """A sequence that ends without being admitted, and why: a ``fault`` with reason "error"."""

    sequence: Sequence
    reason: FinishReason
    fault: Fault | None = None


class Preparer:
    """Sets sequences aside until something that it brings or waits for is there.

    A sequence that is set aside stays in the queue without being admitted, until ``ready`` names it or it ``left``.
    The methods here do nothing, for preparers that need not override them all.
    """

    name: str  # unique among preparers

    def check(self, sequence: Sequence) -> None:
        """Raise the error, an ``RpcError``, with which ``sequence`` is refused because it could never be prepared."""

    def arrived(self, sequence: Sequence, now: float) -> bool:
        """Return whether ``sequence``, which has come into the queue, is to be set aside."""
        return False

    def told(self, event: object, now: float) -> None:
        """Take in ``event`` from a background thread, which may be for another preparer."""

    def holds_back(self, candidate: Sequence, now: float) -> bool:
        """Whether ``candidate``, for which there is a place, is to be set aside instead."""
        return False

    def ready(self, now: float) -> Iterable[Sequence]:
        """The sequences whose wait is over, each once. Called once a turn."""
        return ()

    def endings(self) -> Iterable[Ending]:
        """The sequences that cannot be prepared after all, or need not go on, each once. Called once a turn."""
        return ()

    def left(self, sequence: Sequence) -> None:
        """Forget ``sequence``, which has left the queue for good, perhaps while it was set aside."""

    def next_event_s(self) -> float:
        """When ``ready`` must be called even if nothing happens, on the engine's clock; infinite if never."""
        return inf
