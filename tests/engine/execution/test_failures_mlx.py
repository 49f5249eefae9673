"""A real batch behind the loop: what a failing step costs, and what the page says while steps overlap."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest

from mlx_sidecar.engine.execution.backend_policy import Policy
from mlx_sidecar.engine.execution.mlx_backend import MlxBackend
from mlx_sidecar.engine.execution.sampler import Sampled, Sampler
from mlx_sidecar.link.messages import Dropped, Generate, Sampling, Submit
from mlx_sidecar_protocol.errors import EngineLost
from tests.engine.inline import Inline

LIMIT_BYTES = 1 << 34
LENGTH = 24


@pytest.fixture
def backend() -> MlxBackend:
    return MlxBackend(Policy("cpu", "cpu", "as mlx has it", "float32", "fast", LIMIT_BYTES), LIMIT_BYTES)


@pytest.fixture
def inline(backend: MlxBackend, random_models: Path) -> Iterator[Inline]:
    inline = Inline(LIMIT_BYTES, backend=backend)
    inline.load("m", path=str(random_models / "qwen3"))
    yield inline
    inline.close()


def answers(inline: Inline, *seqs: int) -> list[list[int]]:
    for seq in seqs:
        inline.submit(seq, "m", tokens=seq % 10, max_tokens=LENGTH)
    inline.settle()
    return [inline.tokens(seq) for seq in seqs]


def test_sequences_that_the_device_has_no_memory_for_at_once_give_the_same_tokens(
    inline: Inline, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = [answers(inline, seq)[0] for seq in (11, 12, 13, 14)]
    sample = Sampler.sample

    def scarce(self: Sampler, rows: list[int], positions: list[int], logits: mx.array) -> Sampled:
        if len(rows) > 2:
            raise RuntimeError("[malloc] Unable to allocate 50000 bytes.")
        return sample(self, rows, positions, logits)

    monkeypatch.setattr(Sampler, "sample", scarce)
    assert answers(inline, 21, 22, 23, 24) == alone
    assert inline.stats().counters["allocation_failures"] >= 1
    assert not any(isinstance(message, Dropped) for message in inline.seen)


def test_what_is_dropped_in_the_middle_of_overlapping_steps_goes_on_at_the_next_token(
    inline: Inline, monkeypatch: pytest.MonkeyPatch
) -> None:
    [whole] = answers(inline, 11)
    inline.submit(21, "m", max_tokens=LENGTH)
    while len(inline.tokens(21)) < 5:
        inline.turn()
    page = inline.page.read()
    assert (page.kind, page.operating, page.ids) == ("step", False, (21,))

    def broken(*_: Any) -> Any:
        raise RuntimeError("a bug")

    with monkeypatch.context() as patch:
        patch.setattr(Sampler, "sample", broken)
        inline.turn()
    [dropped] = [message for message in inline.seen if isinstance(message, Dropped)]
    assert (dropped.seqs, dropped.running) == ([21], [21])
    assert inline.page.read().ids == ()
    told = inline.tokens(21)
    again = Submit(21, "m", [1, *told], Generate(Sampling(), [], LENGTH, emitted=len(told)), again=True)
    inline.send(again)
    inline.settle()
    assert inline.tokens(21) == whole


def test_a_device_that_computes_is_proved_and_one_that_does_not_is_refused(
    backend: MlxBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend.prove()
    monkeypatch.setattr(mx, "trace", lambda square: mx.array(1059.0))
    with pytest.raises(EngineLost):
        backend.prove()

    def broken(_: mx.array) -> mx.array:
        raise RuntimeError("no such device")

    monkeypatch.setattr(mx, "trace", broken)
    with pytest.raises(EngineLost, match="no such device"):
        backend.prove()
