"""The cost model learns how long a model's steps take, and so how much a step may prefill. Pure: it has no clock."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf
from typing import NamedTuple

from .depth_cost import NOISE, TRIALS, DepthCost

# A step that prefills beside decoding takes this many times as long as decoding alone. With its wait between two steps,
# a stream's gap stays below three decode steps.
GAP = 2.4
# Where no sequence decodes, the longest time that a cancel waits.
LONGEST_OPERATION_S = 0.25
# Tokens of a step. On CPU more than 512 are no faster, 64 cost no more per token than 512, and 32 cost 30 % more.
CHUNK = 512
# A prompt that shares a step with another gets at least so many tokens, because each is an attention call of its own.
LEAST_CHUNK = 8
LEAST_ALONE = 64  # where none decodes and only a cancel waits; and before anything was measured

# The depth at which attention may cost as much as all the rest: of a prefilled token in a small model, and of the rows
# of a decode step together. The first estimates are within an order of it, and the rest is learned.
TOKEN_UNIT = 1_000
DECODE_UNIT = 10_000

# Decoding beside prefills is measured by leaving prefill out once in so many steps; twice where steps overlap, because
# the second is begun before the first is read. That is a loss of 3 % at most. A prompt of a chunk or less would feel
# it, so that the measurement is put off for as many steps again while one waits.
REMEASURE_STEPS = 64
# A decode step that took so many times as long as expected is measured again before it is believed: a wrong measurement
# would stand for REMEASURE_STEPS.
SURPRISE = 1.5
# Of a mixed step that took less than decoding alone is thought to take, this share is put down to its prefill.
LEAST_SHARE = 0.01


class StepLoad(NamedTuple):
    """A step's work as its time depends on it.

    ``rows`` decode, and ``depth`` tokens stand before them, counted together. ``tokens`` are prefilled; on average
    ``token_depth`` tokens of their own prompt stand before each.
    """

    rows: int
    depth: float = 0.0
    tokens: int = 0
    token_depth: float = 0.0


@dataclass(slots=True)
class Budget:
    """A step may prefill so many ``tokens``, if by ``cost`` they take no more than ``seconds`` together.

    ``least`` it may whatever they take.
    """

    cost: DepthCost
    seconds: float
    tokens: int = CHUNK
    least: int = 1

    def fit(self, pending: int, depth: int) -> int:
        """Return for how many of ``pending`` tokens, the first of them at ``depth``, the budget has room."""
        return int(min(pending, self.tokens, max(self.least, self.cost.tokens_within(self.seconds, depth))))

    def spend(self, tokens: int, depth: int) -> None:
        """Take ``tokens``, the first of them at ``depth``, from the budget."""
        self.seconds -= tokens * self.cost.at(depth + tokens / 2)
        self.tokens -= tokens
        self.least = max(0, self.least - tokens)


@dataclass(slots=True)
class _Decode:
    """Steps of about as many rows, without prefill."""

    # Taken for flat at first: an estimate that is too low makes steps too short, which streams do not feel.
    seconds: DepthCost = field(default_factory=lambda: DepthCost(DECODE_UNIT, 0.0))
    rows: int = 1  # of the last one
    prefills: int = 0  # steps with a prefill since
    surprise_s: float = inf  # the last one took so long, and is not believed yet

    def learn(self, load: StepLoad, seconds: float) -> None:
        """Learn that a step with ``load`` took ``seconds``, or, after a surprise, the shorter of the two."""
        part = self.part(load.rows)
        surprising = self.seconds.known(load.depth) and seconds > SURPRISE * part * self.seconds.at(load.depth)
        if surprising and self.surprise_s == inf:
            self.surprise_s = seconds
            return
        # Else a batch that gets both larger and deeper would be thought to get slower by its depth alone.
        self.seconds.scale(part, doubt=abs(load.rows - self.rows) / self.rows)
        seconds = min(seconds, self.surprise_s)
        self.seconds.learn(load.depth, seconds, NOISE * seconds)
        self.rows, self.prefills, self.surprise_s = load.rows, 0, inf

    def part(self, rows: int) -> float:
        """Return the part of ``seconds`` that ``rows`` take, rather too little than too much.

        A step of fewer rows takes at least its share of one of more, one of more rows at least as long as one of fewer.
        """
        return min(1.0, rows / self.rows)


class StepCostModel:
    """Learns the time of one model's steps: of decoding, by the power of two of its rows, and of a prefilled token.

    Both grow with depth, because attention does. On a GPU a decode step takes as long for 1 row as for 32, on a CPU up
    to 32 times as long. Within a factor of two in rows the estimate can be trusted, given ``_Decode.part``; beyond it,
    nothing is guessed, nor where the rows have become much deeper: steps leave prefill out until decoding alone is
    measured.
    """

    def __init__(self) -> None:
        self._decode: dict[int, _Decode] = {}
        self.token_s = DepthCost(TOKEN_UNIT, 1.0)  # rather too steep than too flat, for the same reason

    def decode_s(self, rows: int, depth: float) -> float | None:
        """Return the seconds of a step in which ``rows`` decode and none prefills; None before it was measured."""
        known = self._decode.get(_size(rows))
        return None if known is None or known.seconds.seen < TRIALS else known.part(rows) * known.seconds.at(depth)

    def expected_s(self, load: StepLoad) -> float | None:
        """Return the seconds of a step with ``load``; None if nothing like it was measured."""
        own_s = self.decode_s(load.rows, load.depth) if load.rows else self._own_s(load)
        if own_s is None or (load.tokens and not self.token_s.seen):
            return None
        return own_s + load.tokens * self.token_s.at(load.token_depth)

    def full_s(self, rows: int, depth: float, joining: int) -> float | None:
        """Return ``decode_s`` once ``joining`` more decode, each of which costs at least as much as a first token.

        Measured by the step of the few that have started, the prompts of a burst would not catch up with those that
        end: 32 requests of 16 tokens, 100M parameters on a CPU, would decode 8 at a time. The depth of those that join
        does not count, because streams do not feel it yet.
        """
        own_s = self.decode_s(rows, depth)
        return None if own_s is None else own_s + joining * self.token_s.base

    def budget(
        self, rows: int, depth: float, fastest_s: float | None, sharing: int, *, hurried: bool = False
    ) -> Budget | None:
        """Return what a step may prefill in which ``rows`` decode at ``depth``; None if it is to measure decoding.

        ``fastest_s`` is the shortest ``full_s`` of all models on the device, because their streams wait for this step;
        None if none decodes. ``sharing`` lanes may each make them wait. ``hurried``: a short prompt waits.
        """
        if rows and self._unsure(rows, depth, hurried=hurried):
            return None
        if not self.token_s.seen:
            return Budget(self.token_s, inf, LEAST_ALONE)
        if fastest_s is None:
            return Budget(self.token_s, LONGEST_OPERATION_S - self._own_s(StepLoad(0)), least=LEAST_ALONE)
        return Budget(self.token_s, (GAP - 1) * fastest_s / sharing)

    def learn(self, load: StepLoad, seconds: float) -> None:
        """Learn that a step with ``load`` took ``seconds``."""
        seconds = max(seconds, 1e-9)
        if not load.tokens:
            self._decode.setdefault(_size(load.rows), _Decode()).learn(load, seconds)
            return
        prefill_s = max(seconds - self._own_s(load), LEAST_SHARE * seconds)
        # The noise is that of the whole step, however little of it was prefill.
        self.token_s.learn(load.token_depth, prefill_s / load.tokens, NOISE * seconds / load.tokens)
        if load.rows and (known := self._decode.get(_size(load.rows))):
            known.prefills += 1

    def _own_s(self, load: StepLoad) -> float:
        """Return the seconds of a step besides its prefill, as far as they are known.

        Without rows they are about those of one row, because the weights are read.
        """
        return self.decode_s(max(1, load.rows), load.depth) or 0.0

    def _unsure(self, rows: int, depth: float, *, hurried: bool) -> bool:
        known = self._decode.get(_size(rows))
        return known is None or not known.seconds.known(depth) or known.prefills >= REMEASURE_STEPS * (1 + hurried)


def _size(rows: int) -> int:
    return (rows - 1).bit_length()
