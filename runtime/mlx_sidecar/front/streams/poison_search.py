"""The poison search decides which streams may run together after the engine died, and which one is the poison.

It is pure: numbers of streams, no clock. It is adaptive group testing by halving (Hwang's binary splitting, 1972,
without a guess at how many are bad). A first death blames no stream, because any may have caused it. A stream that runs
at a second one without a token in between is a suspect. A suspect that ran alone is the poison. One that did not is
tried alone, several are halved and tried half by half, while all others wait. A half that dies is halved again; a half
is cleared when all its members bring a token. So a poison among n that run together is found by death
2 + ceil(log2(n)), and each further one costs at most ceil(log2(n)) more. Where only poisons kill, no other stream is
ever blamed.

This ends: a death that blames makes the group on trial smaller or splits it, any other sort is believed twice only,
and an emptied group makes way for the next.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

DEATHS_OF_A_SUSPECT = 2
# More, because kills from outside may well hit one stream twice before its first token.
DEATHS_BY_FORCE = 5
# After so many deaths in a row without a stream on trial, their cause is elsewhere, and the trial is called off.
UNEXPLAINED_DEATHS = 3


class Verdict(NamedTuple):
    """The findings from a death. ``poisoned``: to be answered so, and forgotten here already.

    ``narrowed``: we know more than before, because a stream was poisoned, or a trial began or was split.
    """

    poisoned: list[int]
    narrowed: bool


class PoisonSearch:
    """The search of a front. Outside a trial all may run, and a stream that never died is not known here."""

    def __init__(self) -> None:
        self._deaths: dict[int, int] = {}  # since its last token; the members of all groups are here too
        self._groups: list[set[int]] = []  # the first is on trial; none is empty, no stream is in two
        self._unexplained = 0

    @property
    def active(self) -> bool:
        """Whether a trial goes on: streams outside the group on trial wait."""
        return bool(self._groups)

    def admits(self, id_: int) -> bool:
        """Whether the stream may run now."""
        return not self._groups or id_ in self._groups[0]

    def died(self, running: Collection[int], *, beside: int = 0, forced: bool = False) -> Verdict:
        """The engine was lost, or a step raised, while the device worked on these open streams.

        ``beside``: so many more may have caused it that cannot be blamed; no stream ran alone beside them. ``forced``:
        a kill from outside, which may have had other reasons: it takes more such deaths to be poison.
        A paused one among them may be on trial now, where all would wait for it: its owner says ``pause`` again.
        """
        ran = set(running)
        for id_ in ran:
            self._deaths[id_] = self._deaths.get(id_, 0) + 1
        alone = len(ran) == 1 and not beside
        alone = alone and (not forced or self._deaths[min(ran)] >= DEATHS_BY_FORCE)
        if not self._groups:
            suspects = {id_ for id_ in ran if self._deaths[id_] >= DEATHS_OF_A_SUSPECT}
            return self._blame(suspects, set(), alone=alone) if suspects else Verdict([], narrowed=False)
        suspects = self._groups[0] & ran
        if not suspects:
            return self._cannot_blame()
        if len(suspects) == 1 and not alone and suspects == self._groups[0]:
            return self._cannot_blame()  # it is tried alone already, and this does not convict it
        group = self._groups.pop(0)
        return self._blame(suspects, group - suspects, alone=alone)

    def progressed(self, id_: int) -> bool:
        """A token of the stream arrived, which clears it. True if streams that waited may run now."""
        if id_ not in self._deaths:  # nearly always so; this runs for each token
            return False
        del self._deaths[id_]
        return self._leaves(id_)

    def ended(self, id_: int) -> bool:
        """The stream is gone, for any reason. True if streams that waited may run now."""
        return self.progressed(id_)

    def pause(self, id_: int) -> bool:
        """The stream is paused: none waits for its trial, its deaths stay. True if streams that waited may run now."""
        return self._leaves(id_)

    def _blame(self, suspects: set[int], absent: set[int], *, alone: bool) -> Verdict:
        """``absent``: members of the same group that did not run. They were next, and stay so."""
        self._unexplained = 0
        ordered = sorted(suspects)
        if alone:
            del self._deaths[ordered[0]]
            poisoned, heirs = ordered, [absent]
        else:
            middle = (len(ordered) + 1) // 2
            poisoned, heirs = [], [set(ordered[:middle]), set(ordered[middle:]), absent]
        self._groups[:0] = [group for group in heirs if group]
        return Verdict(poisoned, narrowed=True)

    def _cannot_blame(self) -> Verdict:
        self._unexplained += 1
        if self._unexplained == UNEXPLAINED_DEATHS:
            self._groups.clear()
            self._deaths.clear()
        return Verdict([], narrowed=False)

    def _leaves(self, id_: int) -> bool:
        if not self._groups:
            return False
        on_trial = self._groups[0]
        for group in self._groups:
            group.discard(id_)
        self._groups = [group for group in self._groups if group]
        return not on_trial
