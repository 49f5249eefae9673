"""mlx-lm may build a model within bounds, and no more; nothing of the bounds stays behind."""

from __future__ import annotations

import resource
import signal
from itertools import count
from types import SimpleNamespace
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import pytest

from mlx_sidecar.engine.execution import building
from mlx_sidecar.engine.execution.building import TooMuch, bounded, check_tables
from mlx_sidecar_protocol.errors import ModelLoadFailed


def layers(count: int) -> None:
    for _ in range(count):
        nn.Linear(4, 4)


def test_modules_are_bounded_by_the_tensors_there_are_for_them() -> None:
    with bounded(1000):
        layers(5000)
    with pytest.raises(TooMuch, match="no weights for them"), bounded(10):
        layers(5000)
    layers(5000)  # outside there is no bound


def test_memory_is_bounded_where_the_system_can() -> None:
    before = resource.getrlimit(resource.RLIMIT_AS)
    with pytest.raises(TooMuch, match="does not fit into memory") as refused, bounded(10):
        assert [False] * 2**31
    assert refused.value.__cause__ is None  # else it would be taken for a machine without memory
    assert resource.getrlimit(resource.RLIMIT_AS) == before


def test_time_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(building, "_CPU_S", 0.05)
    before = signal.getsignal(signal.SIGVTALRM)
    with pytest.raises(TooMuch, match="has not been built within"), bounded(10):
        any(not number for number in count(1))
    assert signal.getsignal(signal.SIGVTALRM) == before
    assert signal.getitimer(signal.ITIMER_VIRTUAL) == (0, 0)


def test_tables_beside_the_weights_are_bounded() -> None:
    def with_table(size: int) -> Any:
        model: Any = nn.Module()
        model.rope = nn.Module()
        model.rope._freqs = mx.zeros(size)
        return model

    check_tables("m", with_table(1000), 0)
    with pytest.raises(ModelLoadFailed, match="describes tables of"):
        check_tables("m", with_table(2**28), 0)
    check_tables("m", with_table(2**28), 2**31)


def test_objects_that_are_no_arrays_are_no_tables() -> None:
    model: Any = nn.Module()
    model._other = SimpleNamespace(nbytes=2**60)
    check_tables("m", model, 0)
