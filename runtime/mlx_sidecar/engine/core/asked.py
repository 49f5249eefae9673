"""The front's submission as the engine works on it: checked against the model, with every default filled in."""

from __future__ import annotations

from dataclasses import dataclass

from mlx_sidecar_protocol.errors import ContextTooLong, InvalidParams

from ...link.messages import Generate, Goal, Priority, Sampling, Submit
from .memory_cost import SequenceCost


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The request for a sequence, with every default filled in.

    ``limit`` is how many tokens it may still generate here. Times are seconds of the engine's clock. Tokens are sent
    for the goal ``Generate`` alone. Other goals want the prompt only: the sequence ends with the one token after it.
    """

    id: int
    model: str
    goal: Goal
    tokens: list[int]
    limit: int
    cost: SequenceCost
    arrived_s: float
    sampling: Sampling
    stop_tokens: list[int]
    emitted: int = 0  # of ``tokens``, the last ones that were generated before a restart
    priority: Priority = "normal"
    deadline_s: float = float("inf")
    explain: bool = False
    again: bool = False  # an engine before this one, or a batch that failed, had it already


def asked_by(submit: Submit, limit: int, cost: SequenceCost, now: float) -> Asked:
    """Return the record of ``submit``, which arrives ``now``; ``limit`` as ``tokens_left`` says."""
    generate = _generation(submit.goal)
    return Asked(
        id=submit.seq,
        model=submit.model,
        goal=submit.goal,
        tokens=submit.tokens,
        limit=limit,
        cost=cost,
        arrived_s=now,
        sampling=generate.sampling,
        stop_tokens=generate.stop_tokens,
        emitted=generate.emitted,
        priority=submit.priority,
        deadline_s=float("inf") if submit.deadline_s is None else now + submit.deadline_s,
        explain=generate.explain,
        again=submit.again,
    )


def tokens_left(submit: Submit, context_length: int, vocabulary: int) -> int:
    """Return how many tokens ``submit`` may still generate: ``max_tokens`` counts those emitted before a restart.

    Raises ``InvalidParams`` for an empty prompt or a token outside the vocabulary, ``ContextTooLong`` where no room is
    left for a single token.
    """
    generate = _generation(submit.goal)
    if not submit.tokens:
        raise InvalidParams.field("tokens", "the prompt is empty; at least one token is needed to start from")
    for name, ids in (("tokens", submit.tokens), ("logit_bias", generate.sampling.logit_bias)):
        if ids and not (min(ids) >= 0 and max(ids) < vocabulary):
            raise InvalidParams.field(name, f"token ids go from 0 to {vocabulary - 1}")
    if len(submit.tokens) - generate.emitted >= context_length:
        raise ContextTooLong(have=len(submit.tokens), limit=context_length)
    return min(generate.max_tokens - generate.emitted, context_length - len(submit.tokens))


# A sequence for another goal than ``Generate`` ends with the one token that the logits after its prompt give.
_FIRST_TOKEN = Generate(Sampling(), [], 1)


def _generation(goal: Goal) -> Generate:
    return goal if isinstance(goal, Generate) else _FIRST_TOKEN
