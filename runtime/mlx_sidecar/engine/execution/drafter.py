"""A draft model proposes the tokens that it would sample itself, with the parameters and the noise of the target's row.

Both models take the argmax of their logits over the temperature plus the same noise, keyed by seed and position. So a
draft that agrees with the target agrees at any temperature, and what is kept is what the target samples.
"""

from __future__ import annotations

import time
import weakref
from dataclasses import dataclass, field
from itertools import takewhile
from typing import NamedTuple, Protocol, cast

import mlx.core as mx

from ..core.sequence import Sequence
from ..speculation.price import StepPrices
from .forward import Forward, Logits, Part, StepInput
from .sampler import Sampler
from .sampler.limits import without_penalties

# A draft model takes in so many tokens of a text at once while it has not caught up, and proposes nothing.
_CATCH_UP_TOKENS = 128


class DraftModel(Protocol):
    """The batch of a draft model, whose forward has rows for the sequences of others beside its own."""

    forward: Forward

    @property
    def in_flight(self) -> bool: ...
    @property
    def epoch(self) -> int:
        """A number that rises whenever all rows are lost."""
        ...

    def break_with(self, error: Exception) -> None:
        """Let the next step fail with ``error``, because the contents of the caches are unknown."""


class Wish(NamedTuple):
    """Up to ``most`` tokens are wanted behind the text of ``sequence`` and the tokens ``forced`` by its grammar."""

    sequence: Sequence
    forced: list[int]
    most: int


@dataclass(slots=True)
class _Row:
    """A row of the draft model: its first ``sure`` tokens are of the text, the ``drafted`` ones behind may not be."""

    sure: int = 0
    drafted: list[int] = field(default_factory=list)
    newest: int = 0  # the token to be taken in next


class Drafter:
    """Keeps a row of a draft model for each sequence of a target that wants proposals of it."""

    def __init__(self, draft: DraftModel, vocabulary: int) -> None:
        """Hold ``draft`` only as long as others do, because it may be unloaded."""
        self._draft = weakref.ref(draft)
        self._sampler = Sampler(vocabulary)
        self._prices = StepPrices()  # of a pass of the draft model, by its rows
        self._rows: dict[int, _Row] = {}
        self._epoch = draft.epoch

    def is_of(self, draft: DraftModel) -> bool:
        """Whether ``draft`` is its draft model."""
        return self._draft() is draft

    def pass_s(self, rows: int) -> float | None:
        """Return the seconds of a pass that drafts a token for each of ``rows``; None before one was measured."""
        return self._prices.of(rows) if self._prices.known else None

    def propose(self, wishes: list[Wish]) -> dict[int, list[int]]:
        """Return the draft model's tokens by sequence: none while it takes in a text, or where a step of it runs."""
        draft = self._draft()
        if draft is None or draft.in_flight:
            return {}
        if self._epoch != draft.epoch:
            self._forget_all(draft)
        try:
            return self._propose(draft.forward, wishes)
        except Exception as error:
            draft.break_with(error)
            self._forget_all(draft)
            raise

    def close(self, sequence: int) -> None:
        """Forget a sequence."""
        if self._rows.pop(sequence, None) is None:
            return
        self._sampler.close(sequence)
        draft = self._draft()
        if draft is not None and self._epoch == draft.epoch:
            draft.forward.close(_number(sequence))

    def _forget_all(self, draft: DraftModel) -> None:
        for row in self._rows:
            self._sampler.close(row)
        self._rows.clear()
        self._epoch = draft.epoch

    def _propose(self, forward: Forward, wishes: list[Wish]) -> dict[int, list[int]]:
        going = [wish for wish in wishes if self._catch_up(forward, wish)]
        found: dict[int, list[int]] = {wish.sequence.id: [] for wish in going}
        for depth in range(max((wish.most for wish in going), default=0)):
            self._pass(forward, [wish for wish in going if depth < wish.most], found)
        return found

    def _catch_up(self, forward: Forward, wish: Wish) -> bool:
        """Have the draft model's row hold the text but for its last token, or more of it; return whether it does."""
        sequence = wish.sequence
        row = self._rows.get(sequence.id) or self._open(forward, sequence)
        number, held = _number(sequence.id), row.sure + len(row.drafted)
        rest = [*sequence.history()[row.sure :], *wish.forced]
        right = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(row.drafted, rest[:-1], strict=False)))
        row.sure += right
        row.drafted = []
        if row.sure < held:
            forward.truncate(number, row.sure)
        if new := rest[right:-1][:_CATCH_UP_TOKENS]:
            forward.run(StepInput([Part(number, len(new), Logits(0))], mx.array(new))).wait()
            row.sure += len(new)
        row.newest = rest[-1]
        return right + len(new) == len(rest) - 1

    def _open(self, forward: Forward, sequence: Sequence) -> _Row:
        forward.open(_number(sequence.id), len(sequence.history()))
        # Penalties would have to count what is proposed and take it back; without them less is accepted.
        self._sampler.open(sequence.id, without_penalties(sequence.sampling), [], [])
        row = self._rows[sequence.id] = _Row()
        return row

    def _pass(self, forward: Forward, wishes: list[Wish], found: dict[int, list[int]]) -> None:
        """Have the draft model take in the newest token of each of ``wishes``, and add to ``found`` what it samples."""
        began_s = time.perf_counter()
        ids = [wish.sequence.id for wish in wishes]
        rows = [self._rows[id_] for id_ in ids]
        # The text ends with the newest token, which is taken in here first.
        positions = [row.sure + len(row.drafted) + 1 for row in rows]
        output = forward.run(
            StepInput([Part(_number(id_), 1, Logits(1)) for id_ in ids], mx.array([row.newest for row in rows]))
        )
        sampled = self._sampler.sample(ids, positions, output.wait())
        for id_, row, token in zip(ids, rows, cast("list[int]", sampled.tokens.tolist()), strict=True):
            row.drafted.append(row.newest)
            row.newest = token
            found[id_].append(token)
        self._prices.learn(len(ids), time.perf_counter() - began_s)


def objection(forward: Forward) -> str:
    """Return why a model with this ``forward`` cannot make proposals; "" if it can."""
    if forward.untruncatable:
        return forward.untruncatable
    if forward.spec.window_evicts:
        return "a layer of it has a window, so that tokens of several steps cannot be taken back"
    return "" if forward.name in ("native", "flat") else "its rows are in caches of mlx-lm's own"


def _number(sequence: int) -> int:
    """The number of a sequence's row in the draft model, whose own rows have numbers above 0."""
    return -sequence
