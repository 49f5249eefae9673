"""A sequence: what the front asked for and when things happened to it. Everything else is derived."""

from __future__ import annotations

from dataclasses import dataclass

from mlx_sidecar_protocol.errors import ContextTooLong, InvalidParams

from ..link.messages import Sampling, Submit, Timing
from ..models.budget import SequenceCost

# mlx-lm's caches grow by so many tokens at a time.
ROOM_TOKENS = 256


@dataclass(eq=False, slots=True)
class Sequence:
    """One token sequence on its way through the engine. Times are of the engine's clock, in seconds.

    ``limit`` is how many tokens it may still generate here; ``tokens`` is never changed.
    """

    id: int
    model: str
    tokens: list[int]
    emitted: int
    sampling: Sampling
    stop_tokens: list[int]
    limit: int
    cost: SequenceCost
    arrived_s: float
    started_s: float | None = None
    first_token_s: float | None = None
    generated: int = 0

    @property
    def need_bytes(self) -> int:
        """Cache it holds once the room that is next allocated is: not what it would hold at its limit, which is often
        the whole context, and which few answers come near."""
        room = -(-(len(self.tokens) + self.generated + 1) // ROOM_TOKENS) * ROOM_TOKENS
        return self.cost.bytes_for(min(room, len(self.tokens) + self.limit))

    @property
    def prefilling(self) -> bool:
        return self.started_s is not None and self.first_token_s is None

    def timing(self, now: float) -> Timing:
        """Where its time went until ``now``, which is its end."""
        started = now if self.started_s is None else self.started_s
        first = now if self.first_token_s is None else self.first_token_s
        return Timing(started - self.arrived_s, first - started, now - first)


def tokens_left(submit: Submit, context_length: int, vocabulary: int) -> int:
    """How many tokens ``submit`` may still generate: ``max_tokens`` counts those emitted before a restart.

    Raises ``InvalidParams`` for an empty prompt or a token outside the vocabulary, ``ContextTooLong`` where no room is
    left for a single token.
    """
    if not submit.tokens:
        raise InvalidParams.field("tokens", "the prompt is empty; at least one token is needed to start from")
    for name, ids in (("tokens", submit.tokens), ("logit_bias", submit.sampling.logit_bias)):
        if ids and not (min(ids) >= 0 and max(ids) < vocabulary):
            raise InvalidParams.field(name, f"token ids go from 0 to {vocabulary - 1}")
    if len(submit.tokens) - submit.emitted >= context_length:
        raise ContextTooLong(have=len(submit.tokens), limit=context_length)
    return min(submit.max_tokens - submit.emitted, context_length - len(submit.tokens))
