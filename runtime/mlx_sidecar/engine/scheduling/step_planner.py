"""What the next step of a model is. Pure: it sees who runs, and what earlier steps took."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from ..core.batch import Work
from .prefill_chunks import Chunks
from .priority_queue import Ticket
from .step_cost_model import Pace

Running = Mapping[str, Mapping[int, Ticket]]  # by model and id, in order of admission


class Planner:
    """Plans steps, and learns from what they took."""

    def __init__(self) -> None:
        self._paces: defaultdict[str, Pace] = defaultdict(Pace)
        self._chunks: defaultdict[str, Chunks] = defaultdict(Chunks)

    def plan(self, running: Running, model: str, now: float, sharing: int) -> list[Work]:
        """A token for all that decode, in order of admission, and then some prefill."""
        decoding, prompts = _ready(running, model)
        work = [Work(ticket.sequence, 1) for ticket in decoding]
        if prompts:
            budget = self._paces[model].budget(len(decoding), self._fastest_step_s(running), sharing)
            work += self._chunks[model].split(prompts, budget, now) if budget else []
        return work

    def account(self, model: str, work: list[Work], seconds: float) -> None:
        prefill = [part for part in work if part.tokens > 1]
        if work:
            tokens = sum(part.tokens for part in prefill)
            self._paces[model].learn(len(work) - len(prefill), tokens, seconds)
        self._chunks[model].account(prefill)

    def expected_s(self, model: str, work: list[Work]) -> float | None:
        """Seconds that a step of ``model`` should take, by what earlier ones took; None if none was like it."""
        tokens = [part.tokens for part in work if part.tokens > 1]
        return self._paces[model].expected_s(len(work) - len(tokens), sum(tokens))

    def _fastest_step_s(self, running: Running) -> float | None:
        """The shortest step of all models that decode: their streams are the first to notice a long operation."""
        rows = {model: [len(tickets) for tickets in _ready(running, model)] for model in running}
        steps = [self._paces[model].full_s(*counts) for model, counts in rows.items() if counts[0]]
        return min((step_s for step_s in steps if step_s is not None), default=None)


def _ready(running: Running, model: str) -> tuple[list[Ticket], list[Ticket]]:
    """Who of ``model`` decodes, and who has a prompt to take in."""
    decoding: list[Ticket] = []
    prompts: list[Ticket] = []
    for ticket in running.get(model, {}).values():
        if not ticket.sequence.spent:
            (decoding if ticket.sequence.pending == 1 else prompts).append(ticket)
    return decoding, prompts
