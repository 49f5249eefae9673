"""The verifier reads a step token by token: each is sampled, checked and counted before the next one is.

A step gives a sequence one token, and one more for each proposal that is the token sampled in its place. So a grammar,
penalties, stop tokens and log-probabilities see the same text as they would without proposals.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, cast

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from mlx_sidecar_protocol.errors import NonFiniteLogits

from ...link.messages import TokenLogprob
from .answer import Answer
from .forward import LateOutput, StepOutput
from .sampler import Mask, NativelySampled, Sampled, Sampler

Logits = mx.array | NDArray[np.float32]  # [wanted, vocabulary]


class Drawn(NamedTuple):
    """The next token of an answer, with its log-probabilities if it was sampled and they are asked for."""

    token: int
    logprob: TokenLogprob | None


class Verifier:
    """Samples steps late, for the rows of one batch."""

    def __init__(self, sampler: Sampler, vocabulary: int) -> None:
        self._sampler = sampler
        self._vocabulary = vocabulary

    def read(self, answers: list[Answer], output: StepOutput | LateOutput) -> None:
        """Wait for a step, and give each of ``answers`` its tokens.

        Where this raises, an answer has the tokens that its sequence and its constraint have, and no others.
        """
        logits: Logits = output.logits() if isinstance(output, LateOutput) else output.wait()
        while answers:
            self._next_tokens(answers, logits)
            answers = [answer for answer in answers if answer.open]

    def _next_tokens(self, answers: list[Answer], logits: Logits) -> None:
        """Give each of ``answers`` its next token."""
        drawn: dict[int, Drawn] = {}
        sampled: list[Answer] = []
        masks: dict[int, Mask] = {}
        for answer in answers:
            forced = answer.next_forced
            if forced is not None and answer.sequence.sampling.logprobs is None:
                drawn[answer.row] = Drawn(forced, None)
                continue
            if (mask := self._mask_first(answer, forced)) is not None:
                masks[answer.row] = mask
            sampled.append(answer)
        drawn |= self._sample(sampled, logits, masks)
        refused = [answer for answer in answers if answer.open and not answer.take(*drawn[answer.row])]
        drawn |= self._sample_allowed(refused, masks, logits)
        rows = [answer.row for answer in answers if answer.fault is None]
        self._sampler.accept(rows, [drawn[row].token for row in rows])

    def _mask_first(self, answer: Answer, forced: int | None) -> Mask | None:
        """Return the mask without which the next token must not be sampled; None if it may be."""
        constraint = answer.sequence.constraint
        if constraint is None:
            return None
        if forced is not None:  # it is sampled for its log-probability
            mask = np.zeros(self._vocabulary, np.bool_)
            mask[forced] = True
            return mask
        if constraint.free or not self._sampler.is_filtered(answer.row):
            return None
        answer.masked += 1
        return answer.draft.mask.result() if answer.draft.mask and not answer.at else constraint.mask()

    def _sample_allowed(self, refused: list[Answer], masked: Mapping[int, Mask], logits: Logits) -> dict[int, Drawn]:
        """Sample once more, among the tokens that constraints allow, and with the same noise.

        An answer that is refused although it was ``masked`` ends, because following its grammar has failed meanwhile.
        """
        masks: dict[int, Mask] = {}
        for answer in refused:
            constraint = answer.sequence.constraint
            if constraint is None or answer.row in masked:
                answer.cannot_go_on()
            else:
                answer.masked += 1
                masks[answer.row] = constraint.mask()
        again = [answer for answer in refused if answer.open]
        drawn = self._sample(again, logits, masks)
        for answer in again:
            if answer.open and not answer.take(*drawn[answer.row]):
                answer.cannot_go_on()
        return drawn

    def _sample(self, answers: list[Answer], logits: Logits, masks: dict[int, Mask]) -> dict[int, Drawn]:
        """Sample the next token of each of ``answers``; end those for which there is none."""
        for answer in answers:
            if answer.row in masks and not masks[answer.row].any():
                del masks[answer.row]
                answer.cannot_go_on()
        answers = [answer for answer in answers if answer.open]
        if not answers:
            return {}
        rows = [answer.row for answer in answers]
        positions = [answer.draft.position + answer.at for answer in answers]
        places = [answer.draft.first + answer.at for answer in answers]
        sampled = _sampled(self._sampler, rows, positions, _at(logits, places), masks)
        unsound, logprobs = sampled.unsound(), sampled.read()
        for at in unsound:
            sequence = answers[at].sequence
            answers[at].fail(NonFiniteLogits(sequence.model, len(sequence.tokens) + len(sequence.generated)))
        tokens = cast("list[int]", sampled.tokens.tolist())
        return {row: Drawn(tokens[at], logprobs.get(at)) for at, row in enumerate(rows) if at not in unsound}


def _at(logits: Logits, places: list[int]) -> Logits:
    if places == list(range(len(logits))):
        return logits
    return logits[mx.array(places)] if isinstance(logits, mx.array) else logits[places]


def _sampled(
    sampler: Sampler, rows: list[int], positions: list[int], logits: Logits, masks: dict[int, Mask]
) -> Sampled | NativelySampled:
    if isinstance(logits, mx.array):
        sampled = sampler.sample(rows, positions, logits, masks, accepts=False)
        mx.eval(*sampled.arrays)
        return sampled
    return sampler.sample(rows, positions, logits, masks, accepts=False)
