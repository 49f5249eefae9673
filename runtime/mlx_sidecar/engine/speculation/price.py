"""The price of proposals: what a step takes with more tokens, and how many of them are accepted. Pure."""

from __future__ import annotations

# A step counts so much less for each later one: about the last 50 decide.
_FADING = 0.98
# An outlier counts at most as so many times what was expected.
_OUTLIER = 2.0
# Before steps of several sizes were measured, and long after, a token more is hoped to take this share of the time of
# each token so far. It is rather too little, so that more are tried, and then it is known.
_HOPED_SHARE = 0.1
# The weight of that hope, in squares of tokens of variance.
_HOPE = 0.5
_FORGETTING = 0.02
_WEIGHT = 0.2


class StepPrices:
    """Seconds of a step by its tokens: a line through the last steps, by least squares with weights that fade."""

    def __init__(self) -> None:
        self._weight = self._tokens = self._seconds = 0.0  # sums, and these of squares and products:
        self._squares = self._products = 0.0

    @property
    def known(self) -> bool:
        """Whether anything was measured."""
        return self._weight > 0

    def learn(self, tokens: int, seconds: float) -> None:
        """Learn that a step of ``tokens`` took ``seconds``."""
        if self._weight > 1 / (1 - _FADING) / 5:  # ten steps
            seconds = min(seconds, _OUTLIER * self.of(tokens))
        sums = (self._weight, self._tokens, self._seconds, self._squares, self._products)
        new = (1.0, tokens, seconds, tokens * tokens, tokens * seconds)
        self._weight, self._tokens, self._seconds, self._squares, self._products = (
            _FADING * old + more for old, more in zip(sums, new, strict=True)
        )

    def of(self, tokens: int) -> float:
        """Return the seconds of a step of ``tokens``; those of ``tokens`` at a second each if nothing was measured."""
        if not self.known:
            return float(tokens)
        mean_s, mean_tokens = self._seconds / self._weight, self._tokens / self._weight
        return max(mean_s / 10, mean_s + self.token_s * (tokens - mean_tokens))

    @property
    def token_s(self) -> float:
        """Return the seconds that one token more takes."""
        if not self.known:
            return _HOPED_SHARE
        mean_s, mean_tokens = self._seconds / self._weight, self._tokens / self._weight
        variance = self._squares - self._weight * mean_tokens**2
        covariance = self._products - self._weight * mean_tokens * mean_s
        hoped = _HOPED_SHARE * mean_s / mean_tokens
        return max(hoped / 10, (covariance + _HOPE * hoped) / (max(0.0, variance) + _HOPE))


class Acceptance:
    """How likely the next token of a source is accepted for one row, if those before it were.

    ``hope`` is what it is thought to be at first, and comes back to while nothing is proposed.
    """

    def __init__(self, hope: float) -> None:
        self.rate = self._hope = hope

    def learn(self, proposed: int, accepted: int) -> None:
        """Learn that of ``proposed`` tokens the first ``accepted`` were."""
        for _ in range(accepted):
            self.rate += _WEIGHT * (1 - self.rate)
        if accepted < proposed:
            self.rate -= _WEIGHT * self.rate

    def forget(self) -> None:
        """Come a little nearer to hope, because the text goes on and may have changed."""
        self.rate += _FORGETTING * (self._hope - self.rate)
