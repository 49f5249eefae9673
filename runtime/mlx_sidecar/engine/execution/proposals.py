"""Proposals are tokens that a decode step takes in behind the newest one of a sequence, to verify them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from itertools import takewhile
from typing import NamedTuple

from ..core.batch import Role, Work
from ..core.sequence import MOST_PROPOSED, Sequence
from ..speculation.speculator import Candidate, Offer, Source, Speculator, most_speculated
from .drafter import Drafter, DraftModel, Wish


class Proposal(NamedTuple):
    """Tokens to verify behind the newest one of a sequence.

    The first ``forced`` are the grammar's, and the rest are of ``source``.
    """

    tokens: list[int]
    forced: int
    source: Source = Source.SHORT_MATCH


NO_PROPOSAL = Proposal([], 0)


class Proposer:
    """Finds proposals for the rows of one batch."""

    def __init__(self, vocabulary: int, untruncatable: str, drafts: Mapping[str, DraftModel]) -> None:
        """Only forced tokens are proposed where rows are ``untruncatable``. ``drafts`` are the resident models."""
        self.speculator = Speculator()
        self._vocabulary = vocabulary
        self._untruncatable = untruncatable
        self._drafts = drafts
        self._drafters: dict[str, Drafter] = {}

    def close(self, sequence: int) -> None:
        """Forget a sequence."""
        self.speculator.close(sequence)
        for drafter in self._drafters.values():
            drafter.close(sequence)

    def reads_first(self, sequence: Sequence) -> bool:
        """Whether the newest token of ``sequence`` is needed before its next step is begun."""
        if sequence.constraint is not None:
            return True
        if self._untruncatable or sequence.speculation is None:
            return False
        return sequence.draft is not None or self.speculator.promises(sequence)

    def propose(self, work: list[Work]) -> dict[int, Proposal]:
        """Return proposals by sequence, and change ``work``, whose newest tokens are known, to verify them.

        The tokens that a grammar forces are always proposed. Others may have to be taken back, so they are not where
        rows are untruncatable; nor where a prompt would wait for them.
        """
        decodes = all(given.role is Role.DECODE for given in work)
        found: dict[int, Proposal] = {}
        candidates: list[Candidate] = []
        for sequence in (given.sequence for given in work if given.role is Role.DECODE):
            most = min(MOST_PROPOSED, sequence.limit - len(sequence.generated) - 1)
            forced = _forced(sequence)[:most]
            if forced:
                found[sequence.id] = Proposal(forced, len(forced))
            more = min(most - len(forced), most_speculated(sequence))
            if decodes and not self._untruncatable and more > 0:
                candidates.append(Candidate(sequence, forced, more))
        if candidates:
            self._speculate(candidates, len(work) + sum(own.forced for own in found.values()), found)
        for at, (sequence, _, role) in enumerate(work):
            if role is Role.DECODE and (own := found.get(sequence.id)):
                work[at] = Work(sequence, 1 + len(own.tokens), Role.VERIFY)
        return found

    def _speculate(self, candidates: list[Candidate], tokens: int, found: dict[int, Proposal]) -> None:
        """Add to ``found``, for a step that has ``tokens`` without; prompt lookup costs nothing, and comes first."""
        offered = self.speculator.propose(candidates, tokens)
        tokens += sum(len(offer.tokens) for offer in offered.values())
        offered |= self._draft([candidate for candidate in candidates if candidate.sequence.id not in offered], tokens)
        for sequence, forced, _ in candidates:
            if (offer := offered.get(sequence.id)) is None:
                continue
            proposed = forced + offer.tokens
            if sequence.constraint is not None:
                proposed = proposed[: sequence.constraint.allowed(proposed)]
            if proposed:
                found[sequence.id] = Proposal(proposed, len(forced), offer.source)

    def _draft(self, candidates: list[Candidate], tokens: int) -> dict[int, Offer]:
        by_draft: defaultdict[str, list[Candidate]] = defaultdict(list)
        for candidate in candidates:
            if (name := candidate.sequence.draft) is not None:
                by_draft[name].append(candidate)
        found: dict[int, Offer] = {}
        for name, own in by_draft.items():
            if (draft := self._drafts.get(name)) is None:  # it was unloaded
                continue
            drafter = self._drafters.get(name)
            if drafter is None or not drafter.is_of(draft):
                drafter = self._drafters[name] = Drafter(draft, self._vocabulary)
            depths = self.speculator.depths(own, tokens, drafter.pass_s(len(own)))
            wishes = [Wish(sequence, forced, depths[sequence.id]) for sequence, forced, _ in own if depths[sequence.id]]
            for row, drafted in drafter.propose(wishes).items():
                found[row] = Offer(drafted, Source.DRAFT)
        return found


def _forced(sequence: Sequence) -> list[int]:
    """Return what the grammar forces, up to a stop token: the answer ends there, and the rest would be taken back."""
    forced = [] if sequence.constraint is None else sequence.constraint.forced
    return [*takewhile(lambda token: token not in sequence.stop_tokens, forced)]
