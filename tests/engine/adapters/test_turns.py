"""A turn of the loop in which no adapter is waited for costs the same with any number of adapters."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import FrameType

import pytest

from mlx_sidecar.engine.adapters import adapters as under_test
from mlx_sidecar.engine.execution.backend_policy import Policy
from mlx_sidecar.engine.execution.mlx_backend import MlxBackend
from mlx_sidecar.link.adapter_messages import AdapterLoaded, AdapterUnloaded, LoadAdapter, UnloadAdapter
from mlx_sidecar.link.control_messages import Unload, Unloaded
from tests.engine.inline import Inline
from tests.support.adapters import shapes_of, write_adapter

KIND = "qwen3"
LIMIT_BYTES = 1 << 34
COUNT = 8


@pytest.fixture
def engine(random_models: Path) -> Iterator[Inline]:
    policy = Policy("cpu", "cpu", "as mlx has it", "float32", "fast", LIMIT_BYTES)
    with closing(Inline(LIMIT_BYTES, backend=MlxBackend(policy, LIMIT_BYTES))) as engine:
        engine.load(KIND, path=str(random_models / KIND))
        yield engine


@pytest.fixture
def path(random_models: Path, tmp_path: Path) -> str:
    return str(write_adapter(tmp_path / "adapter", shapes_of(random_models / KIND)))


def load(engine: Inline, op: int, path: str) -> None:
    engine.send(LoadAdapter(op, KIND, f"adapter {op}", path))
    engine.until(lambda: any(isinstance(message, AdapterLoaded) and message.op == op for message in engine.seen))


def calls_of_turns(engine: Inline) -> int:
    """How many functions of the adapters' module are called while a sequence without adapter runs to its end."""
    calls = 0

    def count(frame: FrameType, event: str, _: object) -> None:
        nonlocal calls
        calls += event == "call" and frame.f_code.co_filename == under_test.__file__

    sequence = 1 + sum(engine.ended(seq) for seq in range(1, 100))
    engine.submit(sequence, KIND, tokens=4, max_tokens=6)
    sys.setprofile(count)
    try:
        engine.settle()
    finally:
        sys.setprofile(None)
    assert engine.ended(sequence)
    return calls


def test_a_turn_asks_no_adapter_whether_it_may_go(engine: Inline, path: str) -> None:
    load(engine, 101, path)
    calls_of_turns(engine)
    one = calls_of_turns(engine)
    for op in range(102, 101 + COUNT):
        load(engine, op, path)
    assert calls_of_turns(engine) == one > 0


def test_an_adapter_that_is_unloaded_or_whose_model_is_leaves_all_the_same(engine: Inline, path: str) -> None:
    for op in (101, 102):
        load(engine, op, path)
    engine.send(UnloadAdapter(103, KIND, "adapter 101"))
    engine.settle()
    assert any(isinstance(message, AdapterUnloaded) and message.op == 103 for message in engine.seen)
    assert engine.stats().gauges["adapters_bytes"] > 0
    engine.send(Unload(104, KIND))
    engine.settle()
    assert any(isinstance(message, Unloaded) and message.op == 104 for message in engine.seen)
    assert engine.stats().gauges["adapters_bytes"] == 0
