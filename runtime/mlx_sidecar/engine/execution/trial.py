"""A trial compares a forward's logits with those of mlx-lm's own caches, to see whether it keeps a model's state.

Two ways to compute one thing round differently, and models amplify rounding: at some tokens a thousand times as much as
at others. So a forward is judged by medians over tokens from all over the vocabulary, which no single ill-conditioned
position decides, and where it differs by more than well-conditioned models do, by how far mlx-lm's own caches differ
from themselves when a sequence is cut into the same passes.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from itertools import chain, islice, product
from statistics import median_low
from typing import NamedTuple, TypeVar, cast

import mlx.core as mx
from mlx.utils import tree_flatten

from .forward import NEXT_TOKEN, NOTHING_WANTED, Forward, Logits, Part, StepInput
from .interfaces import Model, new_caches

# Rows of a sample: the second prefills while the first decodes, pauses, and goes on. Tokens of each, and the steps.
_LENGTHS = (7, 6)
_STEPS = [
    [Part(0, 2, NOTHING_WANTED)],
    [Part(0, 2, NEXT_TOKEN)],
    [Part(1, 3, NEXT_TOKEN), Part(0, 1, NEXT_TOKEN)],
    [Part(0, 1, NEXT_TOKEN)],
    [Part(0, 1, NEXT_TOKEN), Part(1, 1, NEXT_TOKEN)],
    [Part(1, 2, Logits(2))],
]
# Four: the lower median of a step that samples one row of each is then not decided by two of them.
ALL_SAMPLES = 4
# The rows (sample, row) in the order in which they are opened: equal parts of rows side by side are one call of
# attention, others are one each, and there are to be both.
_OPENED = [(0, 0), (1, 0), (0, 1), (2, 0), (1, 1), (3, 0), (2, 1), (3, 1)]
# A share of the range of the logits. Below the first no state is wrong: 1e-3 is what float32 leaves of 1e-7 in models
# that amplify it most, and kernels in half precision differ by 2e-2. From 1e-1 on a state is wrong, whatever the model
# does to rounding; so what is allowed to an ill-conditioned model ends before.
_ALIKE, _ALIKE_IN_HALF_PRECISION = 1e-3, 5e-2
_MOST = 8e-2
_NOISES = 4.0
# Parts of the vocabulary at its ends that are left out: control tokens lie there, and rows that were never trained.
_MARGIN = 1 / 16
_GOLDEN = 0.6180339887498949


_Result = TypeVar("_Result")
Passes = Generator[None, None, _Result]


class NotFinite(Exception):
    """At most tokens the model has no logits that are numbers."""


class Place(NamedTuple):
    """A position whose logits are compared: after ``length`` tokens of a row of a sample, in a step of ``_STEPS``."""

    sample: int
    row: int
    length: int
    step: int


class Trial:
    """Runs forwards of one model over the same tokens. ``vocabulary`` is the number of ids.

    Methods of several passes are generators that yield after each, because other models decode meanwhile.
    ``unpacked``: the model computes in float32, for which it unpacks its weights in each pass; so mlx-lm's own caches
    take in the samples side by side, and rows that are not cut as well.
    """

    def __init__(self, model: Model, vocabulary: int, *, unpacked: bool = False) -> None:
        self._model = model
        self._unpacked = unpacked
        self._sets = [range(ALL_SAMPLES)] if unpacked else [range(i, i + 1) for i in range(ALL_SAMPLES)]
        self._alike = _ALIKE_IN_HALF_PRECISION if half_precision(model) and not unpacked else _ALIKE
        ids = iter(_spread(vocabulary, ALL_SAMPLES * sum(_LENGTHS)))
        self._samples = [[list(islice(ids, length)) for length in _LENGTHS] for _ in range(ALL_SAMPLES)]
        self._uncut: dict[Place, mx.array] = {}
        self._places: list[Place] = []
        self._own: tuple[dict[Place, mx.array], dict[int, float]] | None = None

    def begin(self) -> Passes[None]:
        """Compute the logits that forwards are compared with. Raises ``NotFinite``."""
        self._uncut = yield from self._alone(cut=False)
        self._places = [place for place, logits in self._uncut.items() if is_sound(logits)]
        if 2 * len(self._places) <= len(self._uncut):
            raise NotFinite

    def passes(self, forward: Forward, samples: int = ALL_SAMPLES) -> Passes[bool]:
        """Whether ``forward``, which has no rows, gives the logits of a sequence alone. It is left without rows.

        The first so many ``samples`` run side by side.
        """
        given, limit = (yield from self._run(forward, samples)), self._alike
        places = [place for place in self._places if place.sample < samples]
        apart = self._medians({place: distance(given[place], self._uncut[place]) for place in places})
        if max(apart.values()) < limit:
            return True
        cut, noise = yield from self._noise()
        nearest = {
            place: min(distance(given[place], self._uncut[place]), distance(given[place], cut[place]))
            for place in places
        }
        apart = self._medians(nearest)
        return all(apart[step] < max(limit, min(_MOST, _NOISES * noise[step])) for step in apart)

    def runs(self, forward: Forward) -> Passes[bool]:
        """Run ``forward`` as ``passes`` does, for the errors that it may raise: whether tokens can be sampled of it."""
        given = yield from self._run(forward, samples=1)
        return all(is_sound(given[place]) for place in self._places if place.sample == 0)

    def _noise(self) -> Passes[tuple[dict[Place, mx.array], dict[int, float]]]:
        """Return logits of mlx-lm's caches in the passes of ``_STEPS``, and by step their distance from the uncut."""
        if self._own is None:
            cut = yield from self._alone(cut=True)
            noise = {place: distance(cut[place], self._uncut[place]) for place in self._places}
            self._own = cut, self._medians(noise)
        return self._own

    def _medians(self, apart: dict[Place, float]) -> dict[int, float]:
        """Return medians by step, because a forward may be wrong in one kind of step only, and of all as number -1."""
        steps = {step: [value for place, value in apart.items() if place.step == step] for step in range(len(_STEPS))}
        return {step: median_low(values) for step, values in steps.items() if values} | {-1: median_low(apart.values())}

    def _alone(self, *, cut: bool) -> Passes[dict[Place, mx.array]]:
        """Return logits of each row alone, by mlx-lm's own caches: in the passes of ``_STEPS`` or in a single one."""
        found: dict[Place, mx.array] = {}
        each = [range(row, row + 1) for row in range(len(_LENGTHS))]
        for samples, rows in product(self._sets, [range(len(_LENGTHS))] if self._unpacked and not cut else each):
            side_by_side = [(sample, row) for sample in samples for row in rows]
            length = max(_LENGTHS[row] for row in rows)
            # A shorter row goes on with its last token: what comes behind a token changes nothing of its logits.
            tokens = [self._samples[sample][row] for sample, row in side_by_side]
            padded = mx.array([ids + ids[-1:] * (length - len(ids)) for ids in tokens])
            logits = self._passed(padded, _cuts(rows[0]) if cut else [length])
            places = [place for sample in samples for place in _places(sample) if place.row in rows]
            kept = [logits[side_by_side.index((place.sample, place.row)), place.length - 1] for place in places]
            mx.eval(kept)
            found |= zip(places, kept, strict=True)
            yield
        return found

    def _passed(self, tokens: mx.array, counts: Iterable[int]) -> mx.array:
        """Return logits after each of ``tokens`` [samples, tokens], taken in by ``counts``: [samples, tokens, ids]."""
        caches, begin, logits = new_caches(self._model), 0, []
        for count in counts:
            logits.append(self._model(tokens[:, begin : begin + count], cache=caches))
            mx.eval(logits[-1], [cache.state for cache in caches])
            begin += count
        return mx.concatenate(logits, axis=1)

    def _run(self, forward: Forward, samples: int = ALL_SAMPLES) -> Passes[dict[Place, mx.array]]:
        """Return logits of ``forward`` with all rows of all samples side by side."""
        rows = {(sample, row): sample * len(_LENGTHS) + row for sample, row in _OPENED if sample < samples}
        held = dict.fromkeys(rows, 0)
        found: dict[Place, mx.array] = {}
        for (_, row), number in rows.items():
            forward.open(number, _LENGTHS[row])
        for step, shape in enumerate(_STEPS):
            parts = [(sample, part) for part in shape for sample in range(samples)]
            tokens: list[int] = []
            for sample, part in parts:
                begin = held[sample, part.row]
                tokens += self._samples[sample][part.row][begin : begin + part.tokens]
                held[sample, part.row] += part.tokens
            numbered = [part._replace(row=rows[sample, part.row]) for sample, part in parts]
            logits = forward.run(StepInput(numbered, mx.array(tokens))).wait()
            places = (_wanted(sample, part, held[sample, part.row], step) for sample, part in parts)
            found |= zip(chain.from_iterable(places), logits, strict=True)
            yield
        for number in rows.values():
            forward.close(number)
        return found


def drained(passes: Passes[_Result]) -> _Result:
    """Make all passes at once; return their result."""
    while True:
        try:
            next(passes)
        except StopIteration as done:
            return cast("_Result", done.value)


def half_precision(model: Model) -> mx.Dtype | None:
    """Return the 16-bit type that some of the model's numbers have, if any: its logits may have another."""
    parameters = cast("list[tuple[str, mx.array]]", tree_flatten(model.parameters()))
    return next((array.dtype for _, array in parameters if array.dtype in (mx.float16, mx.bfloat16)), None)


def distance(one: mx.array, other: mx.array) -> float:
    """Return how far logits ``one`` are from ``other`` at most, as a share of the range of ``other``.

    It is infinite where only one of them is a number. A model may rule tokens out by minus infinity.
    """
    one, other = one.astype(mx.float32), other.astype(mx.float32)
    known = mx.isfinite(other)
    lowest, highest = (pick(mx.where(known, other, other[mx.argmax(known)])) for pick in (mx.min, mx.max))
    apart = mx.max(mx.where(known, mx.abs(one - other), 0)) / mx.maximum(highest - lowest, 1e-30)
    same = mx.all(mx.where(known, mx.isfinite(one), one == other))
    return cast("float", mx.where(same, apart, mx.inf).item())


def is_sound(logits: mx.array) -> bool:
    """Whether a token can be sampled of ``logits`` [vocabulary]: none is NaN or plus infinity, and one is finite."""
    return bool(mx.isfinite(mx.max(logits)).item())


def _places(sample: int) -> list[Place]:
    held, places = [0] * len(_LENGTHS), []
    for step, parts in enumerate(_STEPS):
        for part in parts:
            held[part.row] += part.tokens
            places += _wanted(sample, part, held[part.row], step)
    return places


def _wanted(sample: int, part: Part, held: int, step: int) -> list[Place]:
    """Return the positions whose logits ``part`` wants, after which its row holds ``held`` tokens."""
    return [Place(sample, part.row, length, step) for length in range(held - part.want.last + 1, held + 1)]


def _cuts(row: int) -> list[int]:
    return [part.tokens for step in _STEPS for part in step if part.row == row]


def _spread(vocabulary: int, count: int) -> Sequence[int]:
    """Return ``count`` ids from all over the vocabulary but its ends, far apart: multiples of the golden ratio."""
    margin = int(vocabulary * _MARGIN)
    room = vocabulary - 2 * margin
    return [margin + int(i * _GOLDEN % 1 * room) for i in range(1, count + 1)]
