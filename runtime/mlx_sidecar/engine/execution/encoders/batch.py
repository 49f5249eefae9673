"""The batch of an encoder passes the texts of a step together, each as many layers as the step has time for.

To the planner a text is a prompt whose tokens are taken in piece by piece. An encoder cannot take in some tokens before
others, because each sees all. So a piece of a text is some of its layers: of a text of 500 tokens, 100 are a fifth of
them. What is between two pieces is kept as hidden states. A step is bounded by one layer of one text.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from math import inf

import mlx.core as mx

from mlx_sidecar_protocol.errors import InternalError, NonFiniteEmbedding

from ....link.faults import fault_of
from ....link.messages import Embed, Score
from ...core.batch import Event, StepFailed, Work
from ...core.oom_backoff import out_of_memory
from ...core.sequence import Sequence
from ..dense import Dense
from ..pooling import finished, pooled
from .attention import runs_of
from .encoder import Encoder

log = logging.getLogger(__name__)


@dataclass(eq=False, slots=True)
class _Text:
    """A text that has passed the first ``layers``, behind which it has ``hidden`` states [tokens, width]."""

    sequence: Sequence
    layers: int = 0
    hidden: mx.array | None = None

    @property
    def length(self) -> int:
        return len(self.sequence.tokens)


class EncoderBatch:
    """The texts of one encoder. A step is read at once: none is in flight."""

    in_flight = False
    read_s = 0.0  # of no step: none is ever in flight
    reclaimable_bytes = 0

    def __init__(self, encoder: Encoder, limit_bytes: int, dense: Dense | None = None) -> None:
        """Errors tell how much of the device's ``limit_bytes`` was left. Embeddings pass ``dense``."""
        self._encoder = encoder
        self._dense = dense or Dense()
        self._limit_bytes = limit_bytes
        self._texts: dict[int, _Text] = {}

    def open(self, sequence: Sequence) -> None:
        self._texts[sequence.id] = _Text(sequence)

    def close(self, sequence: Sequence, *, keep: bool) -> None:
        self._texts.pop(sequence.id, None)
        sequence.known = 0

    def share(self, sequence: Sequence, tokens: int) -> None:
        """Do nothing, because no text begins with what another has computed."""

    def release(self) -> None:
        """Do nothing, because nothing is ever kept."""

    def due_s(self, running: Iterable[Sequence], now: float) -> float:
        return now if any(not sequence.spent for sequence in running) else inf

    def step(self, work: list[Work], now: float) -> list[Event]:
        try:
            return self._step(work)
        except Exception as error:  # noqa: BLE001 - logged and told
            failed = self._failed(error, work)
        self._reset()
        raise failed

    def _step(self, work: list[Work]) -> list[Event]:
        due = [(self._texts[given.sequence.id], self._layers_after(given)) for given in work]
        for first, last in pairwise(sorted({mark for text, until in due for mark in (text.layers, until)})):
            if texts := [text for text, until in due if text.layers == first and until >= last]:
                self._pass(texts, last)
        done = [given.sequence for given in work if given.samples]
        vectors = [self._vector(self._texts[sequence.id]) for sequence in done]
        mx.eval(vectors, [text.hidden for text, _ in due if text.hidden is not None])
        for given in work:
            given.sequence.known += given.tokens
        return [self._event(sequence, vector) for sequence, vector in zip(done, vectors, strict=True)]

    def _layers_after(self, given: Work) -> int:
        """How many layers a text has passed once so many of its tokens count as taken in."""
        taken = given.sequence.known + given.tokens
        return taken * self._encoder.sizes.layers // len(given.sequence.tokens)

    def _pass(self, texts: list[_Text], until: int) -> None:
        """Pass ``texts``, all of which are behind the same layer, through the next ones ``until`` that number."""
        texts.sort(key=lambda text: text.length)
        runs = runs_of(text.length for text in texts)
        first = texts[0].layers
        known = [text.hidden for text in texts if text.hidden is not None]
        x = mx.concatenate(known) if known else self._embedded(texts)
        for number in range(first, until):
            x = self._encoder.layer(number, x, runs)
        for text, (begin, end) in zip(texts, _bounds(texts), strict=True):
            text.hidden, text.layers = x[begin:end], until

    def _embedded(self, texts: list[_Text]) -> mx.array:
        tokens = [token for text in texts for token in text.sequence.tokens]
        positions = [position for text in texts for position in range(text.length)]
        types = [kind for text in texts for kind in _types(text)]
        return self._encoder.begin(mx.array(tokens), mx.array(positions), mx.array(types))

    def _vector(self, text: _Text) -> mx.array:
        assert text.hidden is not None
        hidden, goal = self._encoder.end(text.hidden), text.sequence.asked.vector
        if isinstance(goal, Embed):
            return self._dense(pooled(hidden, goal.pooling))
        logits = self._encoder.classify(pooled(hidden, self._encoder.sizes.classified).astype(hidden.dtype))
        return logits.astype(mx.float32)

    def _event(self, sequence: Sequence, vector: mx.array) -> Event:
        goal = sequence.asked.vector
        assert goal is not None
        data = finished(vector, goal)
        if data is None:
            log.warning("the vector of sequence %d is not finite", sequence.id)
            return Event(sequence, [], "error", fault_of(NonFiniteEmbedding(sequence.model)))
        return Event(sequence, [], "length", vector=data)

    def _failed(self, error: Exception, work: list[Work]) -> StepFailed:
        typed = out_of_memory(error, max(0, self._limit_bytes - mx.get_active_memory()))
        if typed is None:
            log.error("a step failed, and %d texts with it", len(self._texts), exc_info=error)
        else:
            log.warning("a step failed for want of memory, and %d texts wait: %s", len(self._texts), error)
        return StepFailed(fault_of(typed or InternalError()), [given.sequence for given in work])

    def _reset(self) -> None:
        for text in self._texts.values():
            text.sequence.known = 0
        self._texts.clear()
        mx.clear_cache()


def _types(text: _Text) -> list[int]:
    """0 for each token of the first text, 1 for those of the second, where there are two."""
    goal = text.sequence.asked.vector
    second = goal.second if isinstance(goal, Score) and goal.second else text.length
    return [0] * second + [1] * (text.length - second)


def _bounds(texts: list[_Text]) -> Iterator[tuple[int, int]]:
    begin = 0
    for text in texts:
        yield begin, begin + text.length
        begin += text.length
