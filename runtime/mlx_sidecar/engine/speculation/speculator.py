"""The speculator decides how many tokens are proposed for each sequence of a step, and which. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from typing import NamedTuple

from ..core.sequence import MOST_PROPOSED, Sequence
from .price import Acceptance, StepPrices
from .prompt_lookup import Found, lookup

# A proposed token must pay for itself at least so many times, because prices are estimates.
_WORTH = 1.05


# A draft model whose passes have no price yet drafts so few tokens.
_UNPRICED = 2
# A match of so many tokens is a long one: what follows is a copy more often than not.
_LONG = 4


class Source(Enum):
    """Where proposals come from; the value is the rate at which they are hoped to be accepted."""

    LONG_MATCH = 0.8
    SHORT_MATCH = 0.5
    DRAFT = 0.6

    @classmethod
    def of(cls, found: Found) -> Source:
        """The source of what prompt lookup found."""
        return cls.LONG_MATCH if found.matched >= _LONG else cls.SHORT_MATCH


class Offer(NamedTuple):
    """``tokens`` proposed by ``source``."""

    tokens: list[int]
    source: Source


class Candidate(NamedTuple):
    """A ``sequence`` that may get up to ``most`` proposals behind the tokens ``forced`` by its grammar."""

    sequence: Sequence
    forced: list[int]
    most: int


class Speculator:
    """Proposes tokens where that pays, by the measured time of steps and by what each row has accepted.

    Tokens do not depend on it: a proposal is kept only where it is the token that is sampled there.
    """

    def __init__(self) -> None:
        self.prices = StepPrices()
        self._rates: dict[tuple[int, Source], Acceptance] = {}  # by sequence and source

    def close(self, row: int) -> None:
        """Forget ``row``."""
        for source in Source:
            self._rates.pop((row, source), None)

    def promises(self, sequence: Sequence) -> bool:
        """Whether it pays to read the newest token of ``sequence`` before the next step, to propose behind it.

        That is so where the tokens known so far are found in the text before, because the newest one may go on there.
        """
        if not looks_up(sequence):
            return False
        found = lookup(sequence.history(), [], 1)
        rate = self._rate(sequence, Source.of(found)).rate
        return bool(found.tokens) and rate * self.prices.of(1) >= _WORTH * self.prices.token_s

    def propose(self, candidates: Iterable[Candidate], tokens: int) -> dict[int, Offer]:
        """Return proposals of prompt lookup by sequence, for a step that has ``tokens`` without them."""
        offers: list[tuple[Candidate, Source, list[int]]] = []
        for candidate in candidates:
            if looks_up(candidate.sequence):
                found = lookup(candidate.sequence.history(), candidate.forced, candidate.most)
                offers.append((candidate, Source.of(found), found.tokens))
        depths = self._depths([(candidate, source, len(offered)) for candidate, source, offered in offers], tokens, 0.0)
        return {
            candidate.sequence.id: Offer(offered[:depth], source)
            for candidate, source, offered in offers
            if (depth := depths[candidate.sequence.id])
        }

    def depths(self, candidates: list[Candidate], tokens: int, pass_s: float | None) -> dict[int, int]:
        """Return by sequence how many tokens a draft model shall propose; None: its pass has no price yet."""
        most = MOST_PROPOSED if pass_s is not None else _UNPRICED
        offers = [(candidate, Source.DRAFT, min(most, candidate.most)) for candidate in candidates]
        return self._depths(offers, tokens, pass_s or 0.0)

    def _depths(self, offers: list[tuple[Candidate, Source, int]], tokens: int, pass_s: float) -> dict[int, int]:
        """Return by sequence how many of the tokens on offer to take.

        A token pays if it is likely enough to be accepted for the time that it adds to the step. The rows that accept
        most come first. ``pass_s`` is what it takes to draft one more token for any number of rows.
        """
        expected, seconds = float(tokens), self.prices.of(tokens)
        deepest = 0
        depths: dict[int, int] = {}
        for candidate, source, most in sorted(offers, key=lambda offer: -self._rate(offer[0].sequence, offer[1]).rate):
            acceptance = self._rate(candidate.sequence, source)
            depth, likely = 0, acceptance.rate
            while depth < most:
                added_s = self.prices.token_s + (pass_s if depth >= deepest else 0.0)
                if likely * seconds < _WORTH * added_s * expected:
                    break
                depth += 1
                expected, seconds, likely = expected + likely, seconds + added_s, likely * acceptance.rate
                deepest = max(deepest, depth)
            depths[candidate.sequence.id] = depth
            if not depth:
                acceptance.forget()
        return depths

    def verified(self, sequence: Sequence, source: Source, proposed: int, accepted: int) -> None:
        """Learn that of ``proposed`` tokens for ``sequence`` the first ``accepted`` were kept."""
        if proposed > 0:
            self._rate(sequence, source).learn(proposed, max(0, accepted))

    def _rate(self, sequence: Sequence, source: Source) -> Acceptance:
        return self._rates.setdefault((sequence.id, source), Acceptance(source.value))


def looks_up(sequence: Sequence) -> bool:
    """Whether the host lets prompt lookup propose tokens for ``sequence``."""
    return sequence.speculation is not None and sequence.speculation.ngram


def most_speculated(sequence: Sequence) -> int:
    """Return how many tokens the host lets be proposed for ``sequence`` in a step; 0 for none."""
    wanted = sequence.speculation
    return 0 if wanted is None else wanted.max_tokens or MOST_PROPOSED
