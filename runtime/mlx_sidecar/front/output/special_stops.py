"""Special stops are stop strings that name special tokens, although the host is not sent the texts of these.

They are looked for in the text with the special tokens written out. A special token is one thing there: a stop string
may hold it whole and never a part of it, so ``|`` does not end an answer at ``<|channel|>``, which the host never sees.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence

from .stops import Automaton


def special_stops(stops: Sequence[str], texts: Mapping[int, str]) -> SpecialStops | None:
    """The search for those of ``stops`` that hold a special token; None if none does.

    ``texts``: token → its text, of all tokens that are left out of the text sent.
    """
    naming = [stop for stop in dict.fromkeys(stops) if any(text in stop for text in texts.values() if text)]
    return SpecialStops(naming, texts) if naming else None


class SpecialStops:
    """Reads text and special tokens in their order, up to the end of the first stop string.

    ``seen`` counts the characters of text that have been read, special tokens not among them.
    """

    def __init__(self, stops: Sequence[str], texts: Mapping[int, str]) -> None:
        self._automaton = Automaton(stops)
        self._ends = self._automaton.ends()
        self._texts = texts
        # A special token that is in no stop string parts the texts on both sides of it.
        self._named = {token for token, text in texts.items() if text and any(text in stop for stop in stops)}
        self._longest = max(map(len, stops))
        # (beginning, end) of the special tokens within the length of a stop string, by all characters read.
        self._specials: deque[tuple[int, int]] = deque()
        self.restart(0)

    def restart(self, seen: int) -> None:
        """Nothing has begun, at ``seen`` characters of text."""
        self.seen = seen
        self._hidden = 0  # characters of special tokens that have been read
        self._state = 0
        self._specials.clear()

    def hides(self, token: int) -> bool:
        """Whether the text of ``token`` is left out of the text sent."""
        return token in self._texts

    @property
    def begins(self) -> int:
        """Characters of text before the first place where a stop string may have begun that is not complete."""
        return self.start_of(self._automaton.begun(self._state))

    def start_of(self, match: str) -> int:
        """Characters of text before ``match``, which ends here."""
        start = self.seen + self._hidden - len(match)
        hidden = sum(end - max(begin, start) for begin, end in self._specials if end > start)
        return self.seen - (len(match) - hidden)

    def read(self, text: str) -> tuple[int, str | None]:
        """Read ``text``: (characters of it that were read, the stop string that ended there or None)."""
        at = 0
        while at < len(text):
            if not self._state:
                begins = self._automaton.opening.search(text, at)
                if begins is None:
                    break
                at = begins.start()
            self._state = self._automaton.next(self._state, text[at])
            at += 1
            if self._ends[self._state] and (match := self._whole(self.seen + at)) is not None:
                self.seen += at
                return at, match
        self.seen += len(text)
        return len(text), None

    def special(self, token: int) -> str | None:
        """Read a special token: the stop string that ended with it, or None."""
        text, begin = self._texts[token], self.seen + self._hidden
        if token not in self._named:
            if text:
                self.restart(self.seen)
            return None
        for character in text:
            self._state = self._automaton.next(self._state, character)
        self._hidden += len(text)
        self._specials.append((begin, begin + len(text)))
        while self._specials[0][1] <= begin + len(text) - self._longest:
            self._specials.popleft()
        return self._whole(self.seen)

    def _whole(self, seen: int) -> str | None:
        """The longest stop string that ends behind ``seen`` characters and begins within no special token."""
        for stop in self._ends[self._state]:
            start = seen + self._hidden - len(stop)
            if not any(begin < start < end for begin, end in self._specials):
                return stop
        return None
