"""The engine's counters and histograms, its accounts of the device's time, and the trace if one is written."""

from __future__ import annotations

from collections.abc import Hashable, Iterable

from ...link.messages import FinishReason
from ...observe.metrics import Metrics
from ...observe.trace import Trace
from .batch import Role, Work
from .sequence import Sequence

COUNTERS = (
    "requests",
    "refused",
    "prompt_tokens",
    "cached_tokens",
    "prefill_tokens",
    "completion_tokens",
    "steps",
    "preemptions",
    "cancelled",
    "deadlines",
    "errors",
    "loads",
    "unloads",
    "evictions",
    # At the edge of memory, in the order in which they are tried.
    "kept_released",
    "parked_for_memory",
    "waits_for_memory",
    "refused_for_memory",
    "allocation_failures",
    "dropped",
)
HISTOGRAMS = (
    "queue_s",
    "prefill_s",
    "first_token_s",
    "gap_s",
    "decode_per_s",
    "decode_step_s",
    "prefill_step_s",
    "load_step_s",
    "permit_wait_s",
    "batch_rows",
)
_COUNTED: dict[FinishReason, str] = {"cancelled": "cancelled", "deadline": "deadlines", "error": "errors"}


class Instrumentation:
    """Told of everything that happens in the loop; decides nothing. Times are of the engine's clock, in seconds."""

    def __init__(self, trace: Trace | None) -> None:
        self.metrics = Metrics(COUNTERS, HISTOGRAMS)
        self.device_s = 0.0
        self.last_operation_s: float | None = None
        self.batch_rows = 0
        self._trace = trace
        self._due_since: dict[Hashable, float] = {}

    def due(self, lanes: Iterable[Hashable], now: float) -> None:
        """Note that ``lanes`` want the device; ``operated`` ends the wait of each."""
        self._due_since = {lane: self._due_since.get(lane, now) for lane in lanes}

    def stepped(self, seconds: float, *, prefills: bool) -> None:
        """Note that the device took ``seconds`` for a step."""
        self.metrics.observe("prefill_step_s" if prefills else "decode_step_s", seconds)

    def operated(self, lane: tuple[str, str], began: float, ended: float, work: list[Work]) -> None:
        """Note that ``lane`` had the loop, for ``work`` if it is a batch."""
        kind, model = lane
        prefilled = sum(given.tokens for given in work if given.role is Role.PREFILL)
        self.metrics.observe("permit_wait_s", began - self._due_since.pop(lane, began))
        self.device_s += ended - began
        self.last_operation_s = ended
        name = "load" if kind == "load" else "prefill" if prefilled else "decode"
        if kind == "load":
            self.metrics.observe("load_step_s", ended - began)
        if work:
            self.batch_rows = len(work)
            self.metrics.count("steps")
            self.metrics.count("prefill_tokens", prefilled)
            self.metrics.observe("batch_rows", len(work))
        if self._trace is not None:
            self._trace.operation(name, began, ended, model=model, rows=len(work), prefill_tokens=prefilled)

    def opened(self, sequence: Sequence) -> None:
        """Note that ``sequence`` has a cache, for the first time."""
        self.metrics.count("prompt_tokens", len(sequence.tokens))
        self.metrics.count("cached_tokens", sequence.cached_tokens)

    def generated(self, sequence: Sequence, tokens: int, now: float) -> None:
        """Note ``tokens`` new tokens of ``sequence``, whose times do not count them yet."""
        self.metrics.count("completion_tokens", tokens)
        times, arrived_s = sequence.times, sequence.asked.arrived_s
        if times.last_token_s is not None:
            self.metrics.observe("gap_s", now - times.last_token_s)
            return
        assert times.started_s is not None
        self.metrics.observe("queue_s", times.started_s - arrived_s)
        self.metrics.observe("prefill_s", now - times.started_s)
        self.metrics.observe("first_token_s", now - arrived_s)

    def ended(self, sequence: Sequence, reason: FinishReason, now: float) -> None:
        if reason in _COUNTED:
            self.metrics.count(_COUNTED[reason])
        first, made = sequence.times.first_token_s, len(sequence.generated)
        if first is not None and made > 1 and now > first:
            self.metrics.observe("decode_per_s", (made - 1) / (now - first))
        if self._trace is not None:
            self._trace_life(self._trace, sequence, reason, now)

    def dropped(self, sequences: list[Sequence], now: float) -> None:
        """Note that a failed step has ended ``sequences``."""
        self.metrics.count("dropped", len(sequences))
        if self._trace is not None:
            for sequence in sequences:
                self._trace_life(self._trace, sequence, "dropped", now)

    def idle(self) -> None:
        """Write the trace, because the loop has nothing else to do."""
        if self._trace is not None:
            self._trace.flush()

    @staticmethod
    def _trace_life(trace: Trace, sequence: Sequence, reason: str, now: float) -> None:
        began = now if sequence.times.started_s is None else sequence.times.started_s
        first = now if sequence.times.first_token_s is None else sequence.times.first_token_s
        trace.phase(sequence.id, "queue", sequence.asked.arrived_s, began, priority=sequence.asked.priority)
        if began < now:
            trace.phase(sequence.id, "prefill", began, first, tokens=len(sequence.tokens))
        if first < now:
            trace.phase(sequence.id, "decode", first, now, tokens=len(sequence.generated), finish_reason=reason)
