"""Logits processors of a test's own: one that reads its last token, and one that notes what it is asked."""

from __future__ import annotations

import mlx.core as mx

from mlx_sidecar.engine.execution.sampler.logits_processors import Bound
from mlx_sidecar.link.messages import Sampling
from tests.support.samplings import ints

SUCCEEDING = 7  # rows with this seed are those of ``Successors``


class Successors:
    """Forces, in rows with the seed ``SUCCEEDING``, the token after the last one. Reads the last one to know it."""

    order = 300
    reads_last_token = True

    def __init__(self, vocabulary: int) -> None:
        self.vocabulary = vocabulary
        self.last: dict[int, int] = {}
        self.unread: dict[int, tuple[mx.array, int]] = {}

    def open(self, row: int, params: Sampling, prompt: list[int], answer: list[int]) -> bool:
        if params.seed != SUCCEEDING:
            return False
        self.last[row] = (prompt + answer)[-1]
        return True

    def bind(self, rows: list[int]) -> Bound:
        return BoundSuccessors(self, rows)

    def close(self, row: int) -> None:
        del self.last[row]
        self.unread.pop(row, None)

    def successor(self, row: int) -> int:
        if row in self.unread:
            tokens, place = self.unread.pop(row)
            self.last[row] = ints(tokens)[place]
        return (self.last[row] + 1) % self.vocabulary


class BoundSuccessors:
    def __init__(self, processor: Successors, rows: list[int]) -> None:
        self.processor, self.rows = processor, rows

    def apply(self, logits: mx.array) -> mx.array:
        forced = mx.array([[self.processor.successor(row)] for row in self.rows])
        assert logits.shape == (len(self.rows), self.processor.vocabulary)
        return mx.where(mx.arange(logits.shape[-1]) == forced, logits, -mx.inf)

    def accept(self, tokens: mx.array) -> None:
        assert tokens.shape == (len(self.rows),)
        self.processor.unread |= {row: (tokens, place) for place, row in enumerate(self.rows)}


class Recorder:
    """Raises the logit of a token in its rows, and notes what it is asked."""

    reads_last_token = False

    def __init__(self, _vocabulary: int, *, order: int, token: int, rows: set[int]) -> None:
        self.order, self.token, self.rows = order, token, rows
        self.open_rows: set[int] = set()
        self.accepted: dict[int, list[int]] = {}

    def open(self, row: int, params: Sampling, prompt: list[int], answer: list[int]) -> bool:
        if row in self.rows:
            self.open_rows.add(row)
        return row in self.rows

    def bind(self, rows: list[int]) -> Bound:
        assert rows
        assert set(rows) <= self.open_rows
        return BoundRecorder(self, rows)

    def close(self, row: int) -> None:
        self.open_rows.remove(row)


class BoundRecorder:
    def __init__(self, recorder: Recorder, rows: list[int]) -> None:
        self.recorder, self.rows = recorder, rows

    def apply(self, logits: mx.array) -> mx.array:
        # Twice the largest: of several processors, the last one's token wins.
        raised = mx.arange(logits.shape[-1]) == self.recorder.token
        return mx.where(raised, 2 * mx.max(mx.abs(logits), axis=-1, keepdims=True) + 1, logits)

    def accept(self, tokens: mx.array) -> None:
        for row, token in zip(self.rows, ints(tokens), strict=True):
            self.recorder.accepted.setdefault(row, []).append(token)
