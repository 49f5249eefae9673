"""What the next step of a model is. Pure: it sees who runs, and what earlier steps took."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from .batch import Work
from .chunks import Chunks
from .pace import Pace
from .queue import Ticket

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
            fastest_s = self._fastest_step_s(running, model, len(decoding))
            budget = self._paces[model].budget(len(decoding), fastest_s, sharing)
            work += self._chunks[model].split(prompts, budget, now) if budget else []
        return work

    def account(self, model: str, work: list[Work], seconds: float) -> None:
        prefill = [part for part in work if part.tokens > 1]
        if work:
            tokens = sum(part.tokens for part in prefill)
            self._paces[model].learn(len(work) - len(prefill), tokens, seconds)
        self._chunks[model].account(prefill)

    def _fastest_step_s(self, running: Running, model: str, rows: int) -> float | None:
        """The shortest step of ``model``, whose ``rows`` decode, and of all others that decode: their streams are the
        first to notice a long operation."""
        decoding = {other: len(_ready(running, other)[0]) for other in running if other != model}
        decoding[model] = rows
        steps = [self._paces[name].decode_s(count) for name, count in decoding.items() if count]
        return min((step_s for step_s in steps if step_s is not None), default=None)


def _ready(running: Running, model: str) -> tuple[list[Ticket], list[Ticket]]:
    """Who of ``model`` decodes, and who has a prompt to take in."""
    decoding: list[Ticket] = []
    prompts: list[Ticket] = []
    for ticket in running.get(model, {}).values():
        if not ticket.sequence.spent:
            (decoding if ticket.sequence.pending == 1 else prompts).append(ticket)
    return decoding, prompts
