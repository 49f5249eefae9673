"""A cost that grows with depth is learned from measurements at any depths. Pure: it has no clock."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, sqrt

# Steps of one kind differ by so much of their time (standard deviation).
NOISE = 0.3
# A machine gets slower or faster by so much from one measurement to the next, at all depths alike. With NOISE this
# makes an estimate the mean of about the last eight measurements near its depth.
DRIFT = 0.07
# The shape drifts less: windows fill, pools grow, another kernel is taken for longer rows.
SHAPE_DRIFT = 0.02
# A measurement counts for at most so many times the estimate, and for at least this part of it. A step that waits for a
# compiler or for another process moves an estimate little, and a few ordinary ones later that is forgotten.
OUTLIER = 4.0
# A first step often compiles, and no step is fast by accident: an estimate starts from the least of the first two.
TRIALS = 2
# An estimate whose standard deviation is a greater share of it is a guess.
DOUBT = 0.5
# The least share of an estimate that is put down to the base: no token is free.
LEAST_BASE = 0.01


@dataclass(slots=True)
class DepthCost:
    """A line over depth: ``base`` seconds, and ``slope`` more for every ``unit`` tokens, both positive.

    It is fitted by a Kalman filter of these two numbers. Their covariances tell how much of a surprise is put down to
    each. So a prompt that gets deeper step by step leaves a line that is right at depth 0 as well, and measurements at
    one depth alone do not change what is known of others, except that all get slower or faster together.

    ``unit`` is about the depth whose attention costs as much as all the rest, and ``steepness`` the slope to base that
    is assumed after one measurement.
    """

    unit: float
    steepness: float
    base: float = 0.0
    slope: float = 0.0
    seen: int = 0
    _base_var: float = 0.0
    _cov: float = 0.0
    _slope_var: float = 0.0

    def at(self, depth: float) -> float:
        """Return the estimate at ``depth`` tokens."""
        return self.base + self.slope * depth / self.unit

    def known(self, depth: float) -> bool:
        """Whether the estimate at ``depth`` is more than a guess."""
        x = depth / self.unit
        variance = self._base_var + 2 * x * self._cov + x * x * self._slope_var
        return self.seen >= TRIALS and sqrt(max(0.0, variance)) <= DOUBT * self.at(depth)

    def tokens_within(self, seconds: float, depth: float) -> float:
        """Return how many tokens cost ``seconds`` together, the first of them at ``depth``: not a whole number."""
        if seconds == inf or not self.seen:
            return inf
        first, more = self.at(depth), self.slope / self.unit  # the n-th costs first + n * more
        return 2 * seconds / (first + sqrt(first * first + 2 * more * seconds)) if seconds > 0 else 0.0

    def learn(self, depth: float, value: float, noise: float) -> None:
        """Learn that the cost was ``value`` at ``depth``, both positive, with a standard deviation of ``noise``."""
        x = depth / self.unit
        if not self.seen or (self.seen < TRIALS and value < self.at(depth)):
            self._start(x, value)
        self.seen += 1
        self._drift(x)
        expected = self.at(depth)
        if value > OUTLIER * expected:  # if it stays so slow, it must be learned: so the noise is cut with it
            noise *= OUTLIER * expected / value
        value = min(max(value, expected / OUTLIER), OUTLIER * expected)
        base_gain, slope_gain = self._base_var + x * self._cov, self._cov + x * self._slope_var
        variance = base_gain + x * slope_gain + noise**2
        self.base += base_gain / variance * (value - expected)
        self.slope += slope_gain / variance * (value - expected)
        self._base_var = max(0.0, self._base_var - base_gain * base_gain / variance)
        self._cov -= base_gain * slope_gain / variance
        self._slope_var = max(0.0, self._slope_var - slope_gain * slope_gain / variance)
        self._keep_positive(x)

    def scale(self, factor: float, doubt: float) -> None:
        """Multiply all estimates by ``factor``; the base may be off by so much of it."""
        self.base *= factor
        self.slope *= factor
        self._base_var = self._base_var * factor**2 + (doubt * self.base) ** 2
        self._cov *= factor**2
        self._slope_var *= factor**2

    def _start(self, x: float, value: float) -> None:
        """Begin with a line through the first measurement, and doubt both its numbers."""
        self.base = value / (1 + self.steepness * x)
        self.slope = self.steepness * self.base
        self._base_var, self._cov, self._slope_var = self.base**2, 0.0, self.base**2

    def _drift(self, x: float) -> None:
        shape = (SHAPE_DRIFT * (self.base + self.slope * x) / (1 + x)) ** 2
        self._base_var += (DRIFT * self.base) ** 2 + shape
        self._cov += DRIFT**2 * self.base * self.slope
        self._slope_var += (DRIFT * self.slope) ** 2 + shape

    def _keep_positive(self, x: float) -> None:
        """Turn the line around its point at ``x``, where it was measured."""
        estimate = self.base + self.slope * x
        if self.slope < 0:
            self.base, self.slope = estimate, 0.0
        elif self.base < LEAST_BASE * estimate:
            self.base = LEAST_BASE * estimate
            self.slope = (estimate - self.base) / x
