"""Rows with adapters, in a batch of any make-up, have the logits that mlx-lm gives with the adapter loaded."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlx_sidecar.engine.adapters.reading import Content, Wanted, read
from mlx_sidecar.engine.core.adapter import LowRank, Pairs
from mlx_sidecar.engine.execution import mlxlm
from mlx_sidecar.engine.execution.forward import NEXT_TOKEN, NOTHING_WANTED, Forward, Hidden, Part, StepInput
from mlx_sidecar.engine.execution.native.proof import prove
from mlx_sidecar.engine.execution.probe import probe
from mlx_sidecar.engine.execution.trial import drained
from tests.engine.forwards import close, load, run
from tests.support.adapters import ATTENTION, MLP, prompt, shapes_of, write_adapter

# By name: the rank, and what it changes.
ADAPTERS = {
    "a": (1, ("self_attn.q_proj", "self_attn.v_proj")),
    "b": (4, ATTENTION + MLP),
    "c": (8, MLP),
    "d": (13, ATTENTION + MLP),
}
LENGTH = 40
TEXTS = [prompt(seed, LENGTH) for seed in range(2)]


@dataclass
class Adapted:
    """A forward, its adapters' pairs, and logits [text][position, vocabulary] of mlx-lm with each, or without one."""

    forward: Forward
    pairs: dict[str, Pairs]
    own: dict[str | None, list[mx.array]]

    @property
    def rows(self) -> Any:
        return self.forward.adapted_rows


def _own(model: Any) -> list[mx.array]:
    logits = [model(mx.array([text]), cache=mlxlm.make_prompt_cache(model))[0] for text in TEXTS]
    mx.eval(logits)
    return logits


@pytest.fixture(scope="module", params=["flat", "native"])
def adapted(request: pytest.FixtureRequest, random_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Adapted:
    root, kind = tmp_path_factory.mktemp("adapters"), "sliding"
    model = load(random_models, kind)
    own: dict[str | None, list[mx.array]] = {None: _own(model)}
    forward: Forward = drained(prove(kind, model, "exact", 1)).forward
    if request.param == "flat":
        forward = probe(kind, model).forward
    assert forward.name == request.param
    assert forward.adapted_rows is not None
    pairs: dict[str, Pairs] = {}
    for seed, (name, (rank, targets)) in enumerate(ADAPTERS.items()):
        path = write_adapter(root / name, shapes_of(random_models / kind, targets), rank=rank, seed=seed, size=0.1)
        content = read(Wanted(kind, name, str(path), forward.adapted_rows.projections, 1 << 30)).result
        assert isinstance(content, Content), content
        pairs[name] = content.pairs
        own[name] = _own(mlxlm.load_adapters(load(random_models, kind), str(path)))
    return Adapted(forward, pairs, own)


def test_adapters_of_the_tests_change_logits(adapted: Adapted) -> None:
    for name in ADAPTERS:
        assert not close(adapted.own[name][0], adapted.own[None][0])


@given(
    names=st.lists(st.sampled_from(sorted(ADAPTERS)), unique=True, max_size=4),
    choices=st.lists(st.integers(0, 4), min_size=1, max_size=6),
    cuts=st.integers(0, 1 << 32),
)
@settings(max_examples=25, deadline=None)
def test_each_row_of_any_batch_has_the_logits_of_its_adapter_alone(
    adapted: Adapted, names: list[str], choices: list[int], cuts: int
) -> None:
    """``names`` are attached in this order, ``choices`` are those of the rows, ``cuts`` is the seed of their parts."""
    drawn = random.Random(cuts)
    for name in names:
        adapted.rows.attach(name, adapted.pairs[name])
    asked = [[None, *names][choice % (1 + len(names))] for choice in choices]
    for row, used in enumerate(asked):
        adapted.forward.open(row, LENGTH)
        if used is not None:
            adapted.rows.use(row, used)
    done = [0] * len(asked)
    while min(done) < LENGTH:
        takes = [drawn.choice([0, 1, 1, 3, 20]) if at < LENGTH else 0 for at in done]
        counts = [min(count, LENGTH - at) for count, at in zip(takes, done, strict=True)]
        rows = [row for row, count in enumerate(counts) if count]
        if not rows:
            continue
        tokens = [token for row in rows for token in TEXTS[row % 2][done[row] : done[row] + counts[row]]]
        logits = run(adapted.forward, [Part(row, counts[row], NEXT_TOKEN) for row in rows], tokens)[0]
        for at, row in enumerate(rows):
            done[row] += counts[row]
            assert close(logits[at], adapted.own[asked[row]][row % 2][done[row] - 1])
    for row in range(len(asked)):
        adapted.forward.close(row)
    for name in names:
        assert not adapted.rows.is_used(name)
        adapted.rows.detach(name)
    assert adapted.rows.held_bytes == 0


def test_a_row_without_adapter_has_the_bits_that_it_has_beside_none(adapted: Adapted) -> None:
    forward = adapted.forward
    forward.open(0, LENGTH)
    alone = np.array(run(forward, [Part(0, LENGTH, NEXT_TOKEN)], TEXTS[0])[0])
    adapted.rows.attach("b", adapted.pairs["b"])
    forward.open(1, LENGTH)
    again = np.array(run(forward, [Part(1, LENGTH, NEXT_TOKEN)], TEXTS[0])[0])
    for row in (0, 1):
        forward.close(row)
    adapted.rows.detach("b")
    assert np.array_equal(alone, again)


def test_hidden_states_are_those_of_their_row_with_its_adapter(adapted: Adapted, random_models: Path) -> None:
    forward, own = adapted.forward, adapted.own
    adapted.rows.attach("b", adapted.pairs["b"])
    for row, used in enumerate((None, "b", "b")):
        forward.open(row, LENGTH)
        if used is not None:
            adapted.rows.use(row, used)
    parts = [Part(0, LENGTH, Hidden(LENGTH)), Part(1, LENGTH, NEXT_TOKEN), Part(2, LENGTH, Hidden(2))]
    output = forward.run(StepInput(parts, mx.array(TEXTS[0] * 3)))
    projected = load(random_models, "sliding").model.embed_tokens.as_linear(output.states())
    assert all(close(*pair) for pair in zip(projected[:LENGTH], own[None][0], strict=True))
    assert all(close(*pair) for pair in zip(projected[LENGTH:], own["b"][0][-2:], strict=True))
    assert close(output.wait()[0], own["b"][0][-1])
    for row in range(3):
        forward.close(row)
    adapted.rows.detach("b")


def test_a_step_without_adapters_has_the_graph_that_it_has_where_none_is_attached(random_models: Path) -> None:
    forward = probe("qwen3", load(random_models, "qwen3")).forward
    rows: Any = forward.adapted_rows
    shapes = shapes_of(random_models / "qwen3")
    pairs = {
        path: LowRank(np.ones((2, into), np.float32), np.ones((out, 2), np.float32))
        for path, (into, out) in shapes.items()
    }
    bare = graph(forward, 0)
    rows.attach("a", pairs)
    rows.attach("b", pairs)
    forward.open(1, LENGTH)
    rows.use(1, "a")
    beside = graph(forward, 2)
    adapted = graph(forward, 1)
    assert beside == bare
    assert "GatherMM" not in bare
    assert adapted != bare


def graph(forward: Forward, row: int) -> str:
    """Return the graph of a step that takes in one token of ``row``, in which nothing of it was evaluated."""
    if row != 1:
        forward.open(row, LENGTH)
    mx.eval(*run(forward, [Part(row, 8, NEXT_TOKEN)], TEXTS[0][:8]))
    logits, _ = run(forward, [Part(row, 1, NEXT_TOKEN)], TEXTS[0][8:9])
    written = StringIO()
    mx.export_to_dot(written, logits)
    mx.eval(logits)
    forward.close(row)
    # Primitives are named by where they are in memory.
    numbers: dict[str, int] = {}
    return re.sub(r"\d{6,}", lambda place: str(numbers.setdefault(place[0], len(numbers))), written.getvalue())


def test_an_adapter_is_used_until_its_last_row_is_closed_or_all_are_lost(adapted: Adapted) -> None:
    forward, rows = adapted.forward, adapted.rows
    rows.attach("a", adapted.pairs["a"])
    for row in (0, 1, 2):
        forward.open(row, 8)
        rows.use(row, "a")
    forward.close(0)
    assert rows.is_used("a")
    forward.reset()
    assert not rows.is_used("a")
    rows.detach("a")


def test_a_step_that_samples_nothing_takes_adapters_too(adapted: Adapted) -> None:
    adapted.rows.attach("d", adapted.pairs["d"])
    adapted.forward.open(0, LENGTH)
    adapted.rows.use(0, "d")
    run(adapted.forward, [Part(0, LENGTH - 1, NOTHING_WANTED)], TEXTS[0][:-1])
    logits = run(adapted.forward, [Part(0, 1, NEXT_TOKEN)], TEXTS[0][-1:])[0]
    adapted.forward.close(0)
    adapted.rows.detach("d")
    assert close(logits[0], adapted.own["d"][0][-1])
