"""The effort of a whole answer: what forms and proposals did, summed over the engines that gave its tokens."""

from __future__ import annotations

from dataclasses import dataclass

from ...link.messages import Effort


@dataclass
class EffortSum:
    """Sums of ``Effort``, and the passes that gave tokens."""

    forced: int = 0
    masked: int = 0
    proposed: int = 0
    accepted: int = 0
    passes: int = 0

    def add(self, tokens: list[int], effort: Effort | None) -> None:
        """Count a pass that gave ``tokens``, of which those behind a stop string are gone."""
        self.passes += bool(tokens)
        if effort is not None:
            self.forced += min(effort.forced, len(tokens))
            self.masked += min(effort.masked, len(tokens))
            self.proposed += effort.proposed
            self.accepted += effort.accepted
