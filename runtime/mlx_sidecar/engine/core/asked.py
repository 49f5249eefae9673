"""The front's submission as the engine works on it: checked against the model, with every default filled in."""

from __future__ import annotations

from dataclasses import dataclass

from msgspec.structs import replace

from mlx_sidecar_protocol.errors import ContextTooLong, InvalidParams

from ...link.messages import Constraint, Embed, Generate, Goal, Priority, Sampling, Score, Speculation, Submit
from ..cache.segment import BLOCK
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
    constraint: Constraint | None = None
    speculation: Speculation | None = None
    adapter: str | None = None
    again: bool = False  # an engine before this one, or a batch that failed, had it already

    @property
    def vector(self) -> Embed | Score | None:
        """The goal, where the result is a vector and not a token: no token is sampled, then."""
        return self.goal if isinstance(self.goal, Embed | Score) else None

    @property
    def cacheable(self) -> int:
        """How many of its first tokens the prefix cache may have: of texts to embed, blocks that others begin with too.

        0 where a vector needs the hidden states of all tokens, which are not cached.
        """
        if (goal := self.vector) is None:
            return len(self.tokens) + self.limit
        return 0 if isinstance(goal, Embed) and goal.pooling != "last" else goal.shared // BLOCK * BLOCK

    @property
    def has_form(self) -> bool:
        """Whether the answer is held to a grammar."""
        return self.constraint is not None and bool(self.constraint.grammar)


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
        constraint=generate.constraint,
        speculation=generate.speculation,
        adapter=generate.adapter,
        again=submit.again,
    )


def speculation_of(submit: Submit) -> Speculation | None:
    """Return where proposals for ``submit`` may come from."""
    return _generation(submit.goal).speculation


def without_draft(submit: Submit) -> Submit:
    """Return ``submit`` without its draft model."""
    goal, wanted = submit.goal, speculation_of(submit)
    if not isinstance(goal, Generate) or wanted is None:
        return submit
    return replace(submit, goal=replace(goal, speculation=replace(wanted, draft=None)))


def tokens_left(submit: Submit, context_length: int, vocabulary: int) -> int:
    """Return how many tokens ``submit`` may still generate: ``max_tokens`` counts those emitted before a restart.

    It is one for a goal that wants no answer. Raises ``InvalidParams`` for an empty prompt or a token outside the
    vocabulary, ``ContextTooLong`` where no room is left for a single token, or for the prompt if it wants a vector.
    """
    generate = _generation(submit.goal)
    if not submit.tokens:
        raise InvalidParams.field("tokens", "the prompt is empty; at least one token is needed to start from")
    for name, ids in (("tokens", submit.tokens), ("logit_bias", generate.sampling.logit_bias)):
        if ids and not (min(ids) >= 0 and max(ids) < vocabulary):
            raise InvalidParams.field(name, f"token ids go from 0 to {vocabulary - 1}")
    if isinstance(submit.goal, Embed | Score):
        if len(submit.tokens) > context_length:
            raise ContextTooLong(have=len(submit.tokens), limit=context_length)
        return 1
    if len(submit.tokens) - generate.emitted >= context_length:
        raise ContextTooLong(have=len(submit.tokens), limit=context_length)
    return min(generate.max_tokens - generate.emitted, context_length - len(submit.tokens))


# A sequence for another goal than ``Generate`` ends with the one token that the logits after its prompt give.
_FIRST_TOKEN = Generate(Sampling(), [], 1)


def _generation(goal: Goal) -> Generate:
    return goal if isinstance(goal, Generate) else _FIRST_TOKEN
