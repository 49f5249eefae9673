"""Which prompts the prefill of a step is for."""

from __future__ import annotations

from collections.abc import Iterable

from ..core.batch import Work
from .priority_queue import Ticket
from .step_cost_model import LEAST_CHUNK

# Of all that is prefilled, what the prompt that has waited longest gets at least.
OLDEST_SHARE = 0.25


class Chunks:
    """Splits the prefill of one model's steps: the most urgent class first, in it the shortest remainder first.

    So a short prompt never waits for a long one; and a long one still gets its share, once it is the oldest. A piece
    is never less than LEAST_CHUNK, or all that is left of the prompt: a share that is less in one step is saved up.
    """

    def __init__(self) -> None:
        self._oldest_id = 0
        self._owed = 0.0  # tokens that the oldest has not got of its share

    def split(self, prompts: list[Ticket], budget: int, now: float) -> list[Work]:
        """At most ``budget`` tokens for ``prompts``, which all want some; the most urgent first."""
        oldest = min(prompts, key=lambda ticket: ticket.order)
        if oldest.sequence.id != self._oldest_id:
            self._oldest_id, self._owed = oldest.sequence.id, 0.0
        ordered = sorted(prompts, key=lambda t: (t.running_rank(now), t.sequence.pending, t.order))
        counts = dict.fromkeys(ordered, 0)
        counts[oldest] = _piece(oldest, min(budget, int(self._owed + OLDEST_SHARE * budget)))
        left = budget - counts[oldest]
        for ticket in ordered:
            if not counts[ticket]:
                counts[ticket] = _piece(ticket, left)
                left -= counts[ticket]
        for ticket in ordered:
            if counts[ticket]:  # the rest is too little for another piece
                more = min(left, ticket.sequence.pending - counts[ticket])
                counts[ticket] += more
                left -= more
        return [Work(ticket.sequence, tokens) for ticket, tokens in counts.items() if tokens]

    def account(self, work: Iterable[Work]) -> None:
        """The prefill of a step was done."""
        for sequence, tokens in work:
            self._owed += OLDEST_SHARE * tokens - tokens * (sequence.id == self._oldest_id)
        self._owed = max(0.0, self._owed)


def _piece(ticket: Ticket, tokens: int) -> int:
    """What ``ticket`` takes of ``tokens``: nothing, if that were too little to be worth a step."""
    pending = ticket.sequence.pending
    return min(pending, tokens) if tokens >= min(LEAST_CHUNK, pending) else 0
