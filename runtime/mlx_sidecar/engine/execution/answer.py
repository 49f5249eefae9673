"""An answer is what one step gives a sequence, token by token while the step is read."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

from mlx_sidecar_protocol.errors import ConstraintUnsatisfiable, RpcError

from ...link.faults import fault_of
from ...link.messages import Effort, Fault, FinishReason, TokenLogprob
from ..core.batch import Event
from ..core.sequence import Sequence
from .flight import Draft

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Answer:
    """The tokens of one sequence in a step that is being read. The first ``matched`` proposals were right."""

    sequence: Sequence
    draft: Draft
    tokens: list[int] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    matched: int = 0
    forced: int = 0
    masked: int = 0
    reason: FinishReason | None = None
    fault: Fault | None = None
    open: bool = True

    @property
    def row(self) -> int:
        return self.sequence.id

    @property
    def at(self) -> int:
        """The number of the next token in this step."""
        return len(self.tokens)

    @property
    def next_forced(self) -> int | None:
        """The next token, where the grammar leaves no choice."""
        constraint = self.sequence.constraint
        return None if constraint is None else next(iter(constraint.forced), None)

    def take(self, token: int, logprob: TokenLogprob | None) -> bool:
        """Go on behind ``token``, to the next one or to the end; False if the constraint does not allow it."""
        if not self._allows(token):
            return False
        sequence, constraint = self.sequence, self.sequence.constraint
        proposed = self.draft.proposal.tokens
        right = self.at < len(proposed) and proposed[self.at] == token
        self.matched += right
        if token in sequence.stop_tokens:  # it ends the sequence and is not part of it
            sequence.stopped_by = token
            self.reason = "stop"
        else:
            sequence.generated.append(token)
            self.tokens.append(token)
            if logprob is not None:
                self.logprobs.append(logprob)
            if constraint is not None and constraint.ended:
                self.reason = "stop"
            elif len(sequence.generated) >= sequence.limit:
                self.reason = "length"
        self.open = right and self.reason is None
        return True

    def _allows(self, token: int) -> bool:
        """Let the constraint go on behind ``token``, if it allows that.

        A token that ends the answer is no part of it, so the constraint stays where it is.
        """
        constraint = self.sequence.constraint
        if constraint is None:
            return True
        if token in self.sequence.stop_tokens:
            return constraint.allowed([token]) == 1
        forced = self.next_forced == token
        if not constraint.consume(token):
            return False
        self.forced += forced
        if constraint.lifted:
            self.sequence.constraint = None
        return True

    def fail(self, error: RpcError) -> None:
        """End the sequence with ``error``, behind the tokens that it has."""
        log.warning("sequence %d ends: %s", self.row, error)
        self.reason, self.fault, self.open = "error", fault_of(error), False

    def cannot_go_on(self) -> None:
        """End the sequence, because its constraint allows no token."""
        self.fail(ConstraintUnsatisfiable(len(self.sequence.tokens) + len(self.sequence.generated)))

    def event(self) -> Event:
        """Return what the step gave the sequence."""
        proposed, forced, _ = self.draft.proposal
        effort = Effort(self.forced, self.masked, len(proposed) - forced, max(0, self.matched - forced))
        wanted = self.sequence.sampling.logprobs is not None and self.tokens
        return Event(
            self.sequence,
            self.tokens,
            self.reason,
            self.fault,
            logprobs=self.logprobs if wanted else None,
            effort=None if effort == _NO_EFFORT else effort,
        )


_NO_EFFORT = Effort()
