"""The planner plans a model's next step from the sequences that run and from how long earlier steps took. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

from ..core.batch import Role, Work
from .depth_cost import DepthCost
from .priority_queue import QueueEntry
from .step_cost_model import CHUNK, LEAST_CHUNK, Budget, StepCostModel, StepLoad

# The least share of all time for prefill that the prompt that has waited longest gets.
OLDEST_SHARE = 0.25


class PrefillChunks:
    """Splits the prefill of one model's steps: the most urgent class first, in it the shortest remainder first.

    So a short prompt never waits for a long one; and a long one still gets its share, once it is the oldest. The share
    is saved up until it is a whole step, so that a short prompt that fits into one step is not cut in two for it.
    """

    def __init__(self) -> None:
        self._oldest_id = 0
        self._owed_s = 0.0  # seconds that the oldest has not got of its share

    def split(self, prompts: list[QueueEntry], budget: Budget, now: float) -> list[Work]:
        """Split ``budget``, which is spent, among ``prompts``, which all want some; the most urgent first."""
        oldest = min(prompts, key=lambda entry: entry.order)
        if oldest.sequence.id != self._oldest_id:
            self._oldest_id, self._owed_s = oldest.sequence.id, 0.0
        due = oldest if self._owed_s >= budget.seconds else None
        work: list[Work] = []
        for entry in sorted(prompts, key=lambda t: (t is not due, t.running_rank(now), t.sequence.pending, t.order)):
            sequence = entry.sequence
            tokens = budget.fit(sequence.pending, sequence.known)
            if tokens >= min(LEAST_CHUNK, sequence.pending) or not work:
                budget.spend(tokens, sequence.known)
                work.append(Work(sequence, tokens, Role.PREFILL))
        return work

    def account(self, work: Iterable[Work], cost: DepthCost) -> None:
        """Note that a step did the prefill in ``work``, at ``cost``; its sequences know its tokens."""
        for sequence, tokens, _ in work:
            took_s = tokens * cost.at(sequence.known - tokens / 2)
            self._owed_s += OLDEST_SHARE * took_s - took_s * (sequence.id == self._oldest_id)
        self._owed_s = max(0.0, self._owed_s)


Running = Mapping[str, Mapping[int, QueueEntry]]  # by model and id, in order of admission


class StepPlanner:
    """Plans steps, and learns from the time that they took."""

    def __init__(self) -> None:
        self._paces: defaultdict[str, StepCostModel] = defaultdict(StepCostModel)
        self._chunks: defaultdict[str, PrefillChunks] = defaultdict(PrefillChunks)
        self._flying: dict[str, StepLoad] = {}  # by model, of the step in flight

    def plan(self, running: Running, model: str, now: float, sharing: int) -> list[Work]:
        """Plan a token for all that decode, in order of admission, and then some prefill.

        A sequence that awaits its last token is left out until that has been read.
        """
        decoding, prompts = _ready(running, model)
        work = [Work(entry.sequence, 1, Role.DECODE) for entry in decoding if not entry.sequence.awaits_token]
        if prompts:
            depth = sum(part.sequence.known for part in work)
            hurried = min(entry.sequence.pending for entry in prompts) <= CHUNK
            fastest_s = self._fastest_step_s(running)
            budget = self._paces[model].budget(len(work), depth, fastest_s, sharing, hurried=hurried)
            work += self._chunks[model].split(prompts, budget, now) if budget else []
        return work

    def account(self, model: str, work: list[Work], seconds: float) -> None:
        """Learn that ``work``, which is done, took ``seconds``."""
        if work:
            self._paces[model].learn(_load(work, done=True), seconds)
        self._chunks[model].account((part for part in work if part.role is Role.PREFILL), self.token_cost(model))

    def launched(self, model: str, work: list[Work]) -> None:
        """Note that ``work``, without prefill, is in flight; its sequences know its tokens."""
        self._flying[model] = _load(work, done=True)

    def read(self, model: str, seconds: float) -> None:
        """Learn that the step in flight took ``seconds``."""
        self._paces[model].learn(self._flying[model], seconds)

    def expected_s(self, model: str, work: list[Work]) -> float | None:
        """Return the seconds that ``work`` should take, by earlier steps of ``model``; None if none was like it."""
        return self._paces[model].expected_s(_load(work, done=False))

    def token_cost(self, model: str) -> DepthCost:
        """Return what a prefilled token of ``model`` costs, by its depth, in seconds."""
        return self._paces[model].token_s

    def _fastest_step_s(self, running: Running) -> float | None:
        """Return the shortest step of all models that decode: their streams notice a long operation first."""
        steps: list[float | None] = []
        for model in running:
            decoding, prompts = _ready(running, model)
            if decoding:
                depth = sum(entry.sequence.known for entry in decoding)
                joining = sum(entry.sequence.asked.vector is None for entry in prompts)
                steps.append(self._paces[model].full_s(len(decoding), depth, joining))
        return min((step_s for step_s in steps if step_s is not None), default=None)


def _load(work: list[Work], *, done: bool) -> StepLoad:
    """Return the load of ``work``, whose tokens its sequences know if it is ``done``.

    A row with proposals counts as a row for each of its tokens.
    """
    rows = tokens = 0
    depth = token_depths = 0.0
    for part in work:
        behind = part.sequence.known - part.tokens * done
        if part.role is Role.PREFILL:
            tokens += part.tokens
            token_depths += part.tokens * (behind + part.tokens / 2)
        else:
            rows += part.tokens
            depth += behind
    return StepLoad(rows, depth, tokens, token_depths / max(1, tokens))


def _ready(running: Running, model: str) -> tuple[list[QueueEntry], list[QueueEntry]]:
    """The entries of ``model`` that decode, and those that have a prompt to take in."""
    decoding: list[QueueEntry] = []
    prompts: list[QueueEntry] = []
    for entry in running.get(model, {}).values():
        if not entry.sequence.spent:
            (decoding if entry.sequence.decodes else prompts).append(entry)
    return decoding, prompts
