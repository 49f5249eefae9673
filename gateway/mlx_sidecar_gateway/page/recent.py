"""The requests that ended last, each kept for the holder of the key that asked."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable

from ..core.records import Record

LAST = 50  # requests of each key
_FIRST_TOKENS_S = 300.0  # how long the time of a first token counts
_MOST_FIRST_TOKENS = 4096  # of which the last count, however many requests there were


class Recent:
    """A listener to the records of a gateway. Requests that only read, such as lists of models, are left out.

    ``clock_s`` never goes back.
    """

    def __init__(self, clock_s: Callable[[], float]) -> None:
        self._clock_s = clock_s
        self._by_key: defaultdict[str, deque[Record]] = defaultdict(lambda: deque(maxlen=LAST))
        self._first_tokens: deque[tuple[float, float]] = deque(maxlen=_MOST_FIRST_TOKENS)

    def hear(self, record: Record) -> None:
        """A request has ended."""
        if not is_shown(record):
            return
        self._by_key[record.key].append(record)
        if record.generates and record.first_token_s is not None:
            self._first_tokens.append((self._clock_s(), record.first_token_s))

    def of(self, key: str) -> list[Record]:
        """The last ``LAST`` requests with this key, the newest first."""
        return [*reversed(self._by_key[key])] if key in self._by_key else []

    def first_tokens_s(self) -> list[float]:
        """The times until the first token, of answers that ended in the last five minutes."""
        oldest = self._clock_s() - _FIRST_TOKENS_S
        while self._first_tokens and self._first_tokens[0][0] < oldest:
            self._first_tokens.popleft()
        return [seconds for _, seconds in self._first_tokens]


def is_shown(record: Record) -> bool:
    """Whether the page has a line for a request."""
    return record.method == "POST"
