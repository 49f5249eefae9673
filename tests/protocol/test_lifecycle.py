"""The life of a connection."""

from __future__ import annotations

import pytest

from mlx_sidecar_protocol.errors import InvalidRequest, NotInitialized, ShuttingDown
from mlx_sidecar_protocol.lifecycle import Lifecycle, State, negotiate


def after(*methods: str) -> Lifecycle:
    life = Lifecycle(passive=frozenset({"ping"}))
    for method in methods:
        life.advance(method)
    return life


def test_initialize_is_optional() -> None:
    assert after("generate").state is State.READY
    assert after("initialize", "initialized", "generate").state is State.READY


@pytest.mark.parametrize("before", [("initialize",), ("generate",), ("initialize", "initialized")])
def test_initialize_comes_first_and_once(before: tuple[str, ...]) -> None:
    assert isinstance(after(*before).refusal("initialize"), InvalidRequest)


def test_initialized_without_initialize_is_refused() -> None:
    assert isinstance(after().refusal("initialized"), NotInitialized)


def test_after_shutdown_new_work_is_refused() -> None:
    life = after("generate", "shutdown")
    for method in ("generate", "initialize", "shutdown"):
        assert isinstance(life.refusal(method), ShuttingDown)
    with pytest.raises(ShuttingDown):
        life.advance("generate")
    assert life.state is State.DRAINING


def test_passive_methods_are_taken_at_any_time_and_change_nothing() -> None:
    assert after("ping").state is State.NEW
    assert after("shutdown", "ping").state is State.DRAINING


def test_exit_is_0_after_shutdown_and_1_without() -> None:
    assert after("exit").exit_code == 1
    assert after("generate", "exit").exit_code == 1
    assert after("initialize", "shutdown", "exit").exit_code == 0
    assert after("shutdown", "exit").state is State.ENDED


def test_nothing_is_taken_after_exit() -> None:
    assert isinstance(after("exit").refusal("generate"), ShuttingDown)


def test_the_version_is_the_highest_both_speak() -> None:
    assert negotiate(1) == 1
    assert negotiate(99) == 1
