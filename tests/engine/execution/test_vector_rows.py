"""Texts that a decoder embeds beside streams: each has the vector that it has alone, by native code and by mlx."""

from __future__ import annotations

from itertools import count, cycle
from pathlib import Path
from typing import Any, NamedTuple

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlx_sidecar.engine.cache.prefixes import Prefixes
from mlx_sidecar.engine.cache.store import Store
from mlx_sidecar.engine.core.batch import Event, Role, Work
from mlx_sidecar.engine.core.sequence import Sequence
from mlx_sidecar.engine.execution.mlx_batch import MlxBatch
from mlx_sidecar.engine.execution.native.proof import Proven, prove
from mlx_sidecar.engine.execution.probe import Probed, probe
from mlx_sidecar.engine.execution.trial import drained
from mlx_sidecar.link.control_messages import Pooling
from mlx_sidecar.link.messages import Embed
from tests.engine.execution.native import families
from tests.engine.forwards import load
from tests.support.sequences import sequence_of

KINDS = ["qwen3", "sliding"]
POOLINGS: tuple[Pooling, ...] = ("last", "mean", "max")
WIDTH, LIMIT_BYTES, BAD = 64, 1 << 34, 299
INSTRUCTION = [(7 * at + 3) % 290 for at in range(70)]  # a block of the prefix cache, and more
PROMPT = [(5 * at + 1) % 290 for at in range(9)]
WHOLE = [1 << 10]  # a piece that takes in any text at once

numbers = count(1)


class Text(NamedTuple):
    tokens: list[int]
    pooling: Pooling = "last"
    shared: int = 0


_tokens = st.lists(st.integers(0, 289), min_size=1, max_size=90)
_texts = st.one_of(
    st.builds(Text, _tokens, st.sampled_from(POOLINGS)),
    _tokens.map(lambda tokens: Text([*INSTRUCTION, *tokens], "last", len(INSTRUCTION))),
)


class Ran(NamedTuple):
    """The last event of each text, and the tokens of each stream."""

    events: list[Event]
    said: list[list[int]]

    @property
    def vectors(self) -> list[np.ndarray]:
        assert all(event.vector is not None for event in self.events), self.events
        return [np.frombuffer(event.vector or b"", "<f4") for event in self.events]


def ran(batch: MlxBatch, texts: list[Text], streams: int = 0, pieces: list[int] = WHOLE) -> Ran:
    """Run ``texts`` beside so many ``streams``; the prompts of a step are taken in by the next of ``pieces``."""
    goals = [Embed(text.pooling, WIDTH, normalize=True, shared=text.shared) for text in texts]
    asking = [sequence_of(next(numbers), text.tokens, 1, goal=goal) for text, goal in zip(texts, goals, strict=True)]
    talking = [sequence_of(next(numbers), PROMPT, 12) for _ in range(streams)]
    running = [*talking, *asking]
    for sequence in running:
        batch.open(sequence)
    ended: dict[int, Event] = {}
    for piece in cycle(pieces):
        if not running:
            break
        due = [_work(sequence, piece) for sequence in running if not sequence.spent]
        held = batch.in_flight and any(given.role is Role.PREFILL for given in due)
        for event in batch.step([] if held else due, 0.0):
            if event.reason is not None:
                ended[event.sequence.id] = event
                running.remove(event.sequence)
                batch.close(event.sequence, keep=event.reason != "error")
    return Ran([ended[sequence.id] for sequence in asking], [stream.generated for stream in talking])


def _work(sequence: Sequence, piece: int) -> Work:
    decodes = sequence.asked.vector is None and sequence.pending == 1
    return Work(sequence, min(sequence.pending, piece), Role.DECODE if decodes else Role.PREFILL)


def natively(model: Any) -> Proven:
    return drained(prove("m", model, "exact", 1))


def batch_of(found: Probed | Proven, *, cached: bool = False) -> MlxBatch:
    prefixes = Prefixes(Store(LIMIT_BYTES), "m", found.forward.spec) if cached else None
    return MlxBatch(found.forward, found.vocabulary, LIMIT_BYTES, prefixes)


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    kind: str = request.param
    return kind


@pytest.fixture(scope="module")
def native(random_models: Path, kind: str) -> Proven:
    return natively(load(random_models, kind))


@pytest.fixture(scope="module")
def flat(random_models: Path, kind: str) -> Probed:
    return probe(kind, load(random_models, kind))


@given(
    texts=st.lists(_texts, min_size=1, max_size=5),
    streams=st.integers(0, 2),
    pieces=st.lists(st.integers(1, 70), min_size=1, max_size=4),
)
@settings(max_examples=25)
def test_a_vector_of_native_code_has_the_bits_that_its_text_has_alone(
    native: Proven, texts: list[Text], streams: int, pieces: list[int]
) -> None:
    """Beside others, in pieces, behind an instruction that is found in the cache; and no stream's token changes."""
    alone = batch_of(native)
    expected = [ran(alone, [text]).vectors[0] for text in texts]
    (said,) = ran(alone, [], streams=1).said
    batch = batch_of(native, cached=True)
    for _ in range(2):  # the second time with a warm cache
        given_ = ran(batch, texts, streams, pieces)
        assert all(np.array_equal(one, other) for one, other in zip(given_.vectors, expected, strict=True))
        assert given_.said == [said] * streams


@pytest.mark.parametrize("streams", [0, 2])
@pytest.mark.parametrize("pooling", POOLINGS)
def test_vectors_of_native_code_are_those_of_the_flat_forward(
    flat: Probed, native: Proven, pooling: Pooling, streams: int
) -> None:
    texts = [Text([(11 * at + number) % 290 for at in range(1 + 17 * number)], pooling) for number in range(6)]
    own, other = (ran(batch_of(found), texts, streams, [48]).vectors for found in (native, flat))
    assert all(one @ two >= 1 - 1e-6 for one, two in zip(own, other, strict=True))


def test_an_instruction_is_taken_from_the_cache_the_second_time(native: Proven) -> None:
    batch = batch_of(native, cached=True)
    text = Text([*INSTRUCTION, 1, 2, 3], "last", len(INSTRUCTION))
    cold, warm = (ran(batch, [text]) for _ in range(2))
    assert [ran_.events[0].sequence.cached_tokens for ran_ in (cold, warm)] == [0, 64]
    assert np.array_equal(cold.vectors[0], warm.vectors[0])


@pytest.mark.parametrize("pooling", POOLINGS)
def test_a_text_whose_vector_is_no_number_ends_alone(pooling: Pooling) -> None:
    model = families.make("qwen3")
    model.model.embed_tokens.weight[BAD] = mx.nan
    batch = batch_of(natively(model), cached=True)
    good, bad = Text([1, 2, 3], pooling), Text([4, 5, BAD], pooling)
    alone = ran(batch, [good], streams=1)
    beside = ran(batch, [bad, good], streams=1)
    fault = beside.events[0].fault
    assert fault is not None
    assert fault.kind == "non_finite_embedding"
    assert np.array_equal(np.frombuffer(beside.events[1].vector or b"", "<f4"), alone.vectors[0])
    assert beside.said == alone.said
