"""The phases of a request, as times since its arrival, put together from what its record knows."""

from __future__ import annotations

from typing import NamedTuple

from ..core.records import Record


class Phase(NamedTuple):
    """A part of a request's time: seconds from its arrival."""

    name: str
    began_s: float
    ended_s: float


def phases_of(record: Record) -> list[Phase]:
    """``load``, ``queue``, ``prefill`` and ``decode``, in this order, of a request that has them.

    The sidecar tells durations alone, so that the first token, whose time the gateway knows too, is where they meet.
    No phase reaches out of the request.
    """
    timing, end_s = record.timing, record.duration_s or 0.0
    if timing is None:
        return []
    # Without a first token the request has been in the queue until its end.
    first_s = end_s if record.first_token_s is None else record.first_token_s
    prefill_s = timing.prefill_s or 0.0
    queued_s = first_s - prefill_s - timing.queue_s
    marks = [
        ("load", queued_s - (timing.load_s or 0.0), queued_s, timing.load_s),
        ("queue", queued_s, first_s - prefill_s, timing.queue_s),
        ("prefill", first_s - prefill_s, first_s, timing.prefill_s),
        ("decode", first_s, first_s + (timing.decode_s or 0.0), timing.decode_s),
    ]
    return [
        Phase(name, min(max(began_s, 0.0), end_s), min(max(ended_s, 0.0), end_s))
        for name, began_s, ended_s, told in marks
        if told is not None
    ]
