"""The planner plans a model's next step from the sequences that run and from how long earlier steps took. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

from ..core.batch import Role, Work
from .priority_queue import QueueEntry
from .step_cost_model import LEAST_CHUNK, StepCostModel

# The least share of all prefilled tokens that the prompt that has waited longest gets.
OLDEST_SHARE = 0.25


class PrefillChunks:
    """Splits the prefill of one model's steps: the most urgent class first, in it the shortest remainder first.

    So a short prompt never waits for a long one; and a long one still gets its share, once it is the oldest. A piece
    is never less than LEAST_CHUNK, or all that is left of the prompt: a share that is less in one step is saved up.
    """

    def __init__(self) -> None:
        self._oldest_id = 0
        self._owed = 0.0  # tokens that the oldest has not got of its share

    def split(self, prompts: list[QueueEntry], budget: int, now: float) -> list[Work]:
        """Split at most ``budget`` tokens among ``prompts``, which all want some; the most urgent first."""
        oldest = min(prompts, key=lambda entry: entry.order)
        if oldest.sequence.id != self._oldest_id:
            self._oldest_id, self._owed = oldest.sequence.id, 0.0
        ordered = sorted(prompts, key=lambda t: (t.running_rank(now), t.sequence.pending, t.order))
        counts = dict.fromkeys(ordered, 0)
        counts[oldest] = _piece(oldest, min(budget, int(self._owed + OLDEST_SHARE * budget)))
        left = budget - counts[oldest]
        for entry in ordered:
            if not counts[entry]:
                counts[entry] = _piece(entry, left)
                left -= counts[entry]
        for entry in ordered:
            if counts[entry]:  # the rest is too little for another piece
                more = min(left, entry.sequence.pending - counts[entry])
                counts[entry] += more
                left -= more
        return [Work(entry.sequence, tokens, Role.PREFILL) for entry, tokens in counts.items() if tokens]

    def account(self, work: Iterable[Work]) -> None:
        """Note that a step did the prefill in ``work``."""
        for sequence, tokens, _ in work:
            self._owed += OLDEST_SHARE * tokens - tokens * (sequence.id == self._oldest_id)
        self._owed = max(0.0, self._owed)


def _piece(entry: QueueEntry, tokens: int) -> int:
    """Return how many of ``tokens`` ``entry`` takes: none, if they are too few to be worth a step."""
    pending = entry.sequence.pending
    return min(pending, tokens) if tokens >= min(LEAST_CHUNK, pending) else 0


Running = Mapping[str, Mapping[int, QueueEntry]]  # by model and id, in order of admission


class StepPlanner:
    """Plans steps, and learns from the time that they took."""

    def __init__(self) -> None:
        self._paces: defaultdict[str, StepCostModel] = defaultdict(StepCostModel)
        self._chunks: defaultdict[str, PrefillChunks] = defaultdict(PrefillChunks)

    def plan(self, running: Running, model: str, now: float, sharing: int) -> list[Work]:
        """Plan a token for all that decode, in order of admission, and then some prefill.

        A sequence that awaits its last token is left out until that has been read.
        """
        decoding, prompts = _ready(running, model)
        work = [Work(entry.sequence, 1, Role.DECODE) for entry in decoding if not entry.sequence.awaits_token]
        if prompts:
            budget = self._paces[model].budget(len(work), self._fastest_step_s(running), sharing)
            work += self._chunks[model].split(prompts, budget, now) if budget else []
        return work

    def account(self, model: str, work: list[Work], seconds: float) -> None:
        prefill = [part for part in work if part.role is Role.PREFILL]
        if work:
            tokens = sum(part.tokens for part in prefill)
            self._paces[model].learn(len(work) - len(prefill), tokens, seconds)
        self._chunks[model].account(prefill)

    def expected_s(self, model: str, work: list[Work]) -> float | None:
        """Return the seconds that ``work`` should take, by earlier steps of ``model``; None if none was like it."""
        tokens = [part.tokens for part in work if part.role is Role.PREFILL]
        return self._paces[model].expected_s(len(work) - len(tokens), sum(tokens))

    def _fastest_step_s(self, running: Running) -> float | None:
        """Return the shortest step of all models that decode: their streams notice a long operation first."""
        rows = {model: [len(entries) for entries in _ready(running, model)] for model in running}
        steps = [self._paces[model].full_s(*counts) for model, counts in rows.items() if counts[0]]
        return min((step_s for step_s in steps if step_s is not None), default=None)


def _ready(running: Running, model: str) -> tuple[list[QueueEntry], list[QueueEntry]]:
    """The entries of ``model`` that decode, and those that have a prompt to take in."""
    decoding: list[QueueEntry] = []
    prompts: list[QueueEntry] = []
    for entry in running.get(model, {}).values():
        if not entry.sequence.spent:
            (decoding if entry.sequence.pending == 1 else prompts).append(entry)
    return decoding, prompts
