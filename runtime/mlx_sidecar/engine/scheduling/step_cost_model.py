"""The cost model learns how long a model's steps take, and so how much a step may prefill. Pure: it has no clock."""

from __future__ import annotations

from dataclasses import dataclass, field

# A step that prefills beside decoding takes this many times as long as decoding alone. With its wait between two steps,
# a stream's gap stays below three decode steps.
GAP = 2.5
# Where no sequence decodes, the longest time that a cancel waits.
LONGEST_OPERATION_S = 0.25
# Tokens of a step. On CPU more than 512 are no faster, 64 cost no more per token than 512, and 32 cost 30 % more.
CHUNK = 512
# With less, a short prompt beside a deep one would take many steps, because the cost of a token is learned from both,
# and after 8,000 tokens one costs many times as much as at the start.
LEAST_CHUNK = 16
LEAST_ALONE = 64  # where none decodes and only a cancel waits; and before anything was measured

# Weight of the newest measurement: the mean is that of about the last eight.
GAIN = 0.25
# A measurement counts for at most so many times the mean. A step that waits for a compiler or for another process moves
# the mean by three quarters at most, and three ordinary ones later that is halved.
OUTLIER = 4.0
# A first step often compiles, and no step is fast by accident: the least of the first two is what a mean starts from.
TRIALS = 2
# Decoding beside prefills is measured by leaving prefill out once in so many steps; twice where steps overlap, because
# the first of two is not told apart from the next. That is a loss of 3 % at most.
REMEASURE_STEPS = 64
# Of a mixed step that took less than decoding alone is thought to take, this share is put down to its prefill.
LEAST_SHARE = 0.01


@dataclass(slots=True)
class Mean:
    """An exponentially weighted mean of positive numbers that outliers do not move far."""

    value: float = 0.0
    seen: int = 0

    def learn(self, value: float) -> None:
        self.seen += 1
        if self.seen <= TRIALS:
            self.value = value if self.seen == 1 else min(self.value, value)
        else:
            self.value += GAIN * (min(value, OUTLIER * self.value) - self.value)


@dataclass(slots=True)
class _Decode:
    """Steps of about as many rows, without prefill."""

    seconds: Mean = field(default_factory=Mean)
    rows: int = 1  # of the last one
    prefills: int = 0  # steps with a prefill since

    def of(self, rows: int) -> float:
        """Return the seconds for ``rows``, rather too few than too many.

        A step of fewer rows takes at least its share of one of more, one of more rows at least as long as one of fewer.
        """
        return self.seconds.value * min(1.0, rows / self.rows)


class StepCostModel:
    """Learns the time of one model's steps: of decoding, by the power of two of its rows, and of a prefilled token.

    On a GPU a decode step takes as long for 1 row as for 32, on a CPU up to 32 times as long. Within a factor of two
    in rows the mean can be trusted, given ``_Decode.of``; beyond it, nothing is guessed: steps leave prefill out until
    decoding alone is measured, which takes two of them for each power of two, once.
    """

    def __init__(self) -> None:
        self._decode: dict[int, _Decode] = {}
        self._token_s = Mean()

    def decode_s(self, rows: int) -> float | None:
        """Return the seconds of a step in which ``rows`` decode and none prefills; None before it was measured."""
        known = self._decode.get(_size(rows))
        return None if known is None or known.seconds.seen < TRIALS else known.of(rows)

    def expected_s(self, rows: int, tokens: int) -> float | None:
        """Return the seconds of a step that decodes ``rows`` and prefills ``tokens``; None if that was not measured."""
        own_s = self.decode_s(rows) if rows else self._own_s(0)
        if own_s is None or (tokens and not self._token_s.seen):
            return None
        return own_s + tokens * self._token_s.value

    def full_s(self, rows: int, joining: int) -> float | None:
        """Return ``decode_s`` once ``joining`` more decode, each of which costs about as much as a token of prefill.

        Measured by the step of the few that have started, the prompts of a burst would not catch up with those that
        end: 32 requests of 16 tokens, 100M parameters on a CPU, would decode 8 at a time.
        """
        own_s = self.decode_s(rows)
        return None if own_s is None else own_s + joining * self._token_s.value

    def budget(self, rows: int, fastest_s: float | None, sharing: int) -> int:
        """Return the tokens to prefill in a step in which ``rows`` decode: LEAST_CHUNK to CHUNK, or 0.

        It is 0 if the step is to measure decoding. ``fastest_s`` is the shortest ``full_s`` of all models on the
        device, because their streams wait for this step; None if none decodes. ``sharing`` lanes may each make them
        wait.
        """
        if rows and self._unsure(rows):
            return 0
        if not self._token_s.seen:
            return LEAST_ALONE
        if fastest_s is None:
            least, seconds = LEAST_ALONE, LONGEST_OPERATION_S - self._own_s(0)
        else:
            least, seconds = LEAST_CHUNK, (GAP - 1) * fastest_s / sharing
        return int(max(least, min(CHUNK, seconds / self._token_s.value)))

    def learn(self, rows: int, tokens: int, seconds: float) -> None:
        """Learn that a step in which ``rows`` decoded and ``tokens`` were prefilled took ``seconds``."""
        seconds = max(seconds, 1e-9)
        if not tokens:
            self._learn_decode(rows, seconds)
            return
        self._token_s.learn(max(seconds - self._own_s(rows), LEAST_SHARE * seconds) / tokens)
        if rows and (known := self._decode.get(_size(rows))):
            known.prefills += 1

    def _own_s(self, rows: int) -> float:
        """Return the seconds of a step besides its prefill, as far as they are known.

        Without rows they are about those of one row, because the weights are read.
        """
        return self.decode_s(max(1, rows)) or 0.0

    def _learn_decode(self, rows: int, seconds: float) -> None:
        known = self._decode.setdefault(_size(rows), _Decode())
        known.seconds.value = known.of(rows)
        known.seconds.learn(seconds)
        known.rows, known.prefills = rows, 0

    def _unsure(self, rows: int) -> bool:
        return self.decode_s(rows) is None or self._decode[_size(rows)].prefills >= REMEASURE_STEPS


def _size(rows: int) -> int:
    return (rows - 1).bit_length()
