"""A sequence: what the front asked for, how far it is, and when things happened to it. Everything else is derived."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from typing import Literal

from mlx_sidecar_protocol.errors import ContextTooLong, InvalidParams

from ...link.messages import Generate, Goal, Nearest, Prefill, Priority, Sampling, Submit, Timing
from .memory_cost import SequenceCost

# The host has no window left; or others compute, or the disk is asked for, blocks that it begins with.
Aside = Literal["window", "blocks"]

# Caches grow by so many tokens at a time.
ROOM_TOKENS = 256


@dataclass(eq=False, slots=True)
class Sequence:
    """One token sequence on its way through the engine. Times are of the engine's clock, in seconds.

    ``limit`` is how many tokens it may still generate here; ``tokens`` is never changed. The cache holds its first
    ``known`` tokens; ``in_flight`` counts the token that the device has been told to sample and nobody has read yet.
    ``admitted_s`` is when it was last given a place, ``started_s`` when a first step took in some of its tokens.
    Its first ``cached_upto`` tokens are in the prefix cache; ``cached_tokens`` were there when it came, of which
    ``cached_disk`` had been brought from disk.
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
    priority: Priority = "normal"
    deadline_s: float = float("inf")
    admitted_s: float = 0.0
    started_s: float | None = None
    first_token_s: float | None = None
    last_token_s: float | None = None
    generated: list[int] = field(default_factory=list)
    stopped_by: int | None = None  # the token that ended it, and is no part of it
    known: int = 0
    in_flight: int = 0
    cached_upto: int = 0
    cached_tokens: int = 0
    cached_disk: int = 0
    fetched: set[int] = field(default_factory=set)  # segments that were brought from disk for it
    prefill: Prefill | None = None  # its prompt is all that is wanted: the token that comes of it is not sent
    explain: bool = False
    nearest: Nearest | None = None
    pinned: int = 0
    aside: set[Aside] = field(default_factory=set)  # why it wants no place
    parked: bool = False  # preempted with its cache kept
    again: bool = False  # an engine before this one, or a batch that failed, had it already
    short: bool = False  # it waits for memory, and that has been counted
    reads_last_token: bool = False  # a logits processor does, before the next step; set when the batch opens it
    _history: array[int] = field(init=False)

    def __post_init__(self) -> None:
        self._history = array("i", self.tokens)

    @property
    def total(self) -> int:
        """Tokens of prompt and answer so far, the one in flight included."""
        return len(self.tokens) + len(self.generated) + self.in_flight

    @property
    def pending(self) -> int:
        """Tokens that the model has not taken in: one while it decodes, more while it prefills."""
        return self.total - self.known

    @property
    def awaits_token(self) -> bool:
        """Whether no step may be planned for it until its token in flight has been read."""
        return self.reads_last_token and self.in_flight > 0

    @property
    def paused(self) -> bool:
        """Whether it wants no place: it keeps what cache it has."""
        return bool(self.aside)

    @property
    def idle(self) -> bool:
        """Whether it holds a cache that no step may touch for now."""
        return self.paused or self.parked

    @property
    def spent(self) -> bool:
        """Whether all the tokens it may generate have been asked of the device."""
        return len(self.generated) + self.in_flight >= self.limit

    @property
    def need_bytes(self) -> int:
        """Cache it holds once the room that is next allocated is: not what it would hold at its limit, which is often
        the whole context, and which few answers come near."""
        room = -(-(self.total + 1) // ROOM_TOKENS) * ROOM_TOKENS
        return self.cost.bytes_for(min(room, len(self.tokens) + self.limit))

    def history(self) -> array[int]:
        """Prompt and answer so far, and the token that ended it. Not to be changed."""
        answered = len(self._history) - len(self.tokens)
        self._history.extend(self.generated[answered:])
        if self.stopped_by is not None and len(self._history) == len(self.tokens) + len(self.generated):
            self._history.append(self.stopped_by)
        return self._history

    def upcoming(self, count: int) -> list[int]:
        """The next ``count`` tokens for the model to take in; shorter by the one that is still in flight."""
        behind = self.known - len(self.tokens)
        if behind >= 0:
            return self.generated[behind : behind + count]
        return self.tokens[self.known : self.known + count] + self.generated[: max(0, count + behind)]

    def timing(self, now: float) -> Timing:
        """Where its time went until ``now``, which is its end."""
        started = now if self.started_s is None else self.started_s
        first = now if self.first_token_s is None else self.first_token_s
        return Timing(started - self.arrived_s, first - started, now - first)


def sequence_of(submit: Submit, limit: int, cost: SequenceCost, now: float) -> Sequence:
    """What ``submit`` asks for, as of ``now``; ``limit`` as ``tokens_left`` says."""
    generate = _generation(submit.goal)
    return Sequence(
        id=submit.seq,
        model=submit.model,
        tokens=submit.tokens,
        emitted=generate.emitted,
        sampling=generate.sampling,
        stop_tokens=generate.stop_tokens,
        limit=limit,
        cost=cost,
        arrived_s=now,
        priority=submit.priority,
        deadline_s=float("inf") if submit.deadline_s is None else now + submit.deadline_s,
        again=submit.again,
        prefill=submit.goal if isinstance(submit.goal, Prefill) else None,
        explain=generate.explain,
    )


def tokens_left(submit: Submit, context_length: int, vocabulary: int) -> int:
    """How many tokens ``submit`` may still generate: ``max_tokens`` counts those emitted before a restart.

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


# A prefill ends with the one token that the logits behind its prompt give.
_FIRST_TOKEN = Generate(Sampling(), [], 1)


def _generation(goal: Goal) -> Generate:
    return goal if isinstance(goal, Generate) else _FIRST_TOKEN
