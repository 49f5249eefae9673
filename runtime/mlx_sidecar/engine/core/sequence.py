"""A sequence is the record of a request, its progress and its times. Everything else is derived from these."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field

from ...link.messages import Nearest, Sampling, Speculation, Timing
from .asked import Asked
from .constraint import Constraint

# Why a sequence is set aside: its host has no window left. Other reasons are the names of preparers.
WINDOW = "window"

# Caches grow by so many tokens at a time.
ROOM_TOKENS = 256
# A decode step takes in at most so many tokens of a sequence behind the newest one, to verify them.
MOST_PROPOSED = 15


@dataclass(slots=True)
class Standing:
    """A sequence in the scheduler's books; only ``scheduling`` writes it, and admission ``short``."""

    admitted_s: float = 0.0  # when it was last given a place
    aside: set[str] = field(default_factory=set)  # why it wants no place
    parked: bool = False  # preempted or paused with its cache kept
    short: bool = False  # it waits for memory, and that has been counted


@dataclass(slots=True)
class PrefixState:
    """The prefix cache's notes on a sequence; only the preparers of ``prefix`` write them."""

    fetched: set[int] = field(default_factory=set)  # segments that were brought from disk for it
    nearest: Nearest | None = None


@dataclass(slots=True)
class Times:
    """The times of a sequence's progress, in seconds of the engine's clock.

    ``started_s`` is when a step first took in some of its tokens. The loop writes it, or a batch that begins with a
    sequence before its first step; completion writes the rest.
    """

    started_s: float | None = None
    first_token_s: float | None = None
    last_token_s: float | None = None


@dataclass(eq=False, slots=True)
class Sequence:
    """One token sequence on its way through the engine.

    Its batch writes ``generated`` to ``reads_last_token``. The cache holds its first ``known`` tokens. ``in_flight``
    counts the tokens that a step in flight gives it at most: one, and one more for each that was proposed. Its first
    ``cached_upto`` tokens are in the prefix cache; ``cached_tokens`` were there when it came, of which ``cached_disk``
    came from disk.
    """

    asked: Asked
    standing: Standing = field(default_factory=Standing)
    prefix: PrefixState = field(default_factory=PrefixState)
    times: Times = field(default_factory=Times)
    generated: list[int] = field(default_factory=list)
    stopped_by: int | None = None  # the token that ended it, and is no part of it
    known: int = 0
    in_flight: int = 0
    cached_upto: int = 0
    cached_tokens: int = 0
    cached_disk: int = 0
    reads_last_token: bool = False  # a logits processor reads it before the next step; set when the batch opens it
    constraint: Constraint | None = None  # set before it is admitted, by the preparer of grammars
    _history: array[int] = field(init=False)

    # As asked; here because a step reads them of every row.
    id: int = field(init=False)
    model: str = field(init=False)
    tokens: list[int] = field(init=False)
    limit: int = field(init=False)

    def __post_init__(self) -> None:
        asked = self.asked
        self.id, self.model, self.tokens, self.limit = asked.id, asked.model, asked.tokens, asked.limit
        self._history = array("i", asked.tokens)

    @property
    def emitted(self) -> int:
        return self.asked.emitted

    @property
    def sampling(self) -> Sampling:
        return self.asked.sampling

    @property
    def speculation(self) -> Speculation | None:
        return self.asked.speculation

    @property
    def draft(self) -> str | None:
        """The model that makes proposals for it."""
        return None if self.asked.speculation is None else self.asked.speculation.draft

    @property
    def stop_tokens(self) -> list[int]:
        return self.asked.stop_tokens

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
        return bool(self.standing.aside)

    @property
    def parked(self) -> bool:
        """Whether it holds a cache and has no place."""
        return self.standing.parked

    @property
    def idle(self) -> bool:
        """Whether it holds a cache that no step may touch for now."""
        return self.standing.parked or bool(self.standing.aside)

    @property
    def decodes(self) -> bool:
        """Whether the next step takes in its newest token and samples one; else some of its prompt is taken in."""
        return self.pending == 1 and self.asked.vector is None

    @property
    def spent(self) -> bool:
        """Whether all the tokens it may generate have been asked of the device."""
        return len(self.generated) + self.in_flight >= self.limit

    @property
    def room_tokens(self) -> int:
        """Tokens of the room that it has, or is about to be given where it has filled that."""
        ahead = MOST_PROPOSED if self.asked.constraint or self.asked.speculation else 0
        return -(-(self.total + 1 + ahead) // ROOM_TOKENS) * ROOM_TOKENS

    @property
    def need_bytes(self) -> int:
        """Bytes of cache it holds once its next room is allocated.

        It is not the bytes at its limit, because that is often the whole context, and few answers come near it.
        """
        return self.asked.cost.bytes_for(min(self.room_tokens, len(self.tokens) + self.limit))

    def history(self) -> array[int]:
        """Return prompt and answer so far, and the token that ended it. Not to be changed."""
        answered = len(self._history) - len(self.tokens)
        self._history.extend(self.generated[answered:])
        if self.stopped_by is not None and len(self._history) == len(self.tokens) + len(self.generated):
            self._history.append(self.stopped_by)
        return self._history

    def upcoming(self, count: int) -> list[int]:
        """Return the next ``count`` tokens for the model to take in, without the one that is still in flight."""
        behind = self.known - len(self.tokens)
        if behind >= 0:
            return self.generated[behind : behind + count]
        return self.tokens[self.known : self.known + count] + self.generated[: max(0, count + behind)]

    def timing(self, now: float) -> Timing:
        """Return where its time went until ``now``, which is its end."""
        times = self.times
        started = now if times.started_s is None else times.started_s
        first = now if times.first_token_s is None else times.first_token_s
        return Timing(started - self.asked.arrived_s, first - started, now - first)
