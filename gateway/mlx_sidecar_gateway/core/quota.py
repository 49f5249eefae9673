"""Quotas: buckets that fill with time, from which requests and tokens are taken."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ..surfaces.allowance import Allowance
from ..surfaces.faults import Fault, Refused
from .keys import Key

MINUTE_NS = 60 * 10**9
_LONGEST_RETRY_S = 60.0  # SDKs wait as long as they are told to, and a person would take that for a hang


class Bucket:
    """A bucket that holds ``size`` things, is full at first, and fills by ``size`` a minute.

    It may owe: more can be taken than is there, and is filled up first. Times are nanoseconds of a clock that never
    goes back. All is whole numbers, so that after ``wait_ns`` there is something, to the nanosecond.
    """

    def __init__(self, size: int, now_ns: int) -> None:
        self.size = size
        self._content = size * MINUTE_NS  # in things times a minute
        self._filled_ns = now_ns

    def left(self, now_ns: int) -> int:
        """How many whole things are in it; negative if it owes."""
        self._fill(now_ns)
        return self._content // MINUTE_NS

    def wait_ns(self, now_ns: int) -> int:
        """How long until there is one thing in it, if nothing is taken meanwhile."""
        self._fill(now_ns)
        return max(0, -((self._content - MINUTE_NS) // self.size))

    def full_ns(self, now_ns: int) -> int:
        """How long until it is full, if nothing is taken meanwhile."""
        self._fill(now_ns)
        return -((self._content - self.size * MINUTE_NS) // self.size)

    def take(self, count: int, now_ns: int) -> None:
        """Take ``count`` things; a negative number of them is given back."""
        self._fill(now_ns)
        self._content = min(self._content - count * MINUTE_NS, self.size * MINUTE_NS)

    def _fill(self, now_ns: int) -> None:
        self._content = min(self._content + (now_ns - self._filled_ns) * self.size, self.size * MINUTE_NS)
        self._filled_ns = now_ns


class Quota:
    """The buckets of a key, of which each may be missing.

    A request is taken while there is a request and a token left. An estimate of its tokens is taken out at once, and
    put right when the true number is known: so a burst of requests cannot come before the first has been counted, and
    an answer that is longer than what was left leaves a debt.
    """

    def __init__(self, key: Key, clock_ns: Callable[[], int]) -> None:
        self._key = key
        self._clock_ns = clock_ns
        self._requests = _bucket(key.requests_a_minute, clock_ns())
        self._tokens = _bucket(key.tokens_a_minute, clock_ns())

    def admit(self, tokens: int | None) -> None:
        """Take a request of about so many tokens; None for one that takes none. Raises ``Refused``, and takes nothing.

        A request that comes as late as ``retry_after_s`` says is taken, unless others of the key go before it, or some
        that run turn out longer than was thought.
        """
        now_ns = self._clock_ns()
        asked = [(self._requests, "requests", 1), (None if tokens is None else self._tokens, "tokens", tokens or 0)]
        needed = [(bucket, what, count) for bucket, what, count in asked if bucket is not None]
        waits = [(bucket.wait_ns(now_ns), what, bucket.size) for bucket, what, _ in needed]
        if waits and max(waits)[0] > 0:
            raise Refused(self._exceeded(*max(waits)))
        for bucket, _, count in needed:
            bucket.take(count, now_ns)

    def settle(self, estimate: int, tokens: int) -> None:
        """A request that was taken with an ``estimate`` has needed so many tokens."""
        if self._tokens is not None:
            self._tokens.take(tokens - estimate, self._clock_ns())

    def allowances(self) -> Iterator[Allowance]:
        """The rest of each quota."""
        now_ns = self._clock_ns()
        for bucket, what in ((self._requests, "requests"), (self._tokens, "tokens")):
            if bucket is not None:
                left = max(0, bucket.left(now_ns))
                yield Allowance(what, bucket.size, left, bucket.full_ns(now_ns) / 1e9)

    def _exceeded(self, wait_ns: int, what: str, size: int) -> Fault:
        wait_s = wait_ns / 1e9
        message = f"the key {self._key.name!r} has used up its {size} {what} a minute"
        is_short = wait_s <= _LONGEST_RETRY_S
        return Fault(429, "rate_limited", message, retryable=is_short, retry_after_s=wait_s)


def _bucket(size: int | None, now_ns: int) -> Bucket | None:
    return None if size is None else Bucket(size, now_ns)
