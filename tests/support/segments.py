"""Segments and the tokens they are of, for tests of the disk tier."""

from __future__ import annotations

import random
from array import array
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import mlx.core as mx

from mlx_sidecar.engine.cache.disk.names import names
from mlx_sidecar.engine.cache.disk.store import DiskStore
from mlx_sidecar.engine.cache.segment import BLOCK, Segment, Span

IDENTITY = "0123456789abcdef0123456789abcdef"
OTHER = "fedcba9876543210fedcba9876543210"
EVER = 1 << 40  # bytes that no test writes


def prompt(count: int, seed: int = 0) -> array[int]:
    draw = random.Random(seed)
    return array("i", (draw.randrange(1 << 17) for _ in range(count)))


def numbers(shape: Sequence[int], dtype: mx.Dtype, seed: int) -> mx.array:
    """Evaluated, and as good as random."""
    return mx.random.normal(shape, key=mx.random.key(seed)).astype(dtype)


def segment(
    start: int,
    stop: int,
    *,
    shapes: Sequence[tuple[int, int, int]] = ((2, 1, 4),),
    dtype: mx.Dtype = mx.float32,
    checkpoints: Sequence[Sequence[int] | None] = (),
    seed: int = 0,
) -> Segment:
    """``shapes``: (members, heads, size) of each span; ``checkpoints``: a shape, or None, of each."""
    make = partial(numbers, dtype=dtype)
    spans = tuple(
        Span(start, make((members, heads, stop - start, size), seed=seed + number))
        for number, (members, heads, size) in enumerate(shapes)
    )
    made = Segment(
        start,
        stop,
        spans,
        tuple(None if shape is None else make(shape, seed=seed + 100) for shape in checkpoints),
    )
    mx.eval([span.data for span in made.spans], [state for state in made.checkpoints if state is not None])
    return made


def same(one: Segment | None, other: Segment | None) -> bool:
    """Whether two segments have the same bits, types and shapes."""
    if one is None or other is None:
        return one is other
    firsts = [[span.first for span in made.spans] for made in (one, other)]
    arrays = [[*(span.data for span in made.spans), *made.checkpoints] for made in (one, other)]
    return (
        one[:2] == other[:2]
        and firsts[0] == firsts[1]
        and len(arrays[0]) == len(arrays[1])
        and all(map(_same_array, *arrays))
    )


def _same_array(one: mx.array | None, other: mx.array | None) -> bool:
    if one is None or other is None:
        return one is other
    return one.dtype == other.dtype and one.shape == other.shape and _bits(one) == _bits(other)


def _bits(values: mx.array) -> bytes:
    return memoryview(values).tobytes()  # type: ignore[arg-type]  # the stubs do not say that it is a buffer


def parent(tokens: array[int], start: int, identity: str = IDENTITY) -> bytes | None:
    return names(identity, None, tokens[:start])[-1] if start else None


def write(store: DiskStore, tokens: array[int], made: Segment, identity: str = IDENTITY) -> Path:
    """Put ``made`` there, which is of ``tokens`` from the first on; where it is."""
    written = store.write(identity, parent(tokens, made.start, identity), made, tokens[made.start : made.stop])
    assert written is not None
    return written[0]


def chain(store: DiskStore, tokens: array[int], blocks: int = 1, seed: int = 0) -> list[Path]:
    """Write all of ``tokens``, so many blocks to a file."""
    step = blocks * BLOCK
    return [
        write(store, tokens, segment(start, min(start + step, len(tokens)), seed=seed + start))
        for start in range(0, len(tokens), step)
    ]
