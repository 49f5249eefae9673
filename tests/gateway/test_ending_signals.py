"""Signals at the end of a gateway's life, and at its beginning: none is lost, and none kills it."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import cycle

import anyio
import pytest

from mlx_sidecar_gateway.ending_signals import NUMBERS, EndingSignals
from tests.gateway.gateway_process import gateway_process


@pytest.mark.parametrize("is_ready", [True, False], ids=["once it is ready", "from its first line on"])
def test_however_many_signals_come_until_the_process_is_gone_its_status_is_0(is_ready: bool) -> None:
    with gateway_process("--engine", "fake", is_ready=is_ready) as gateway:
        numbers = cycle(NUMBERS)
        while gateway.process.poll() is None:
            gateway.process.send_signal(next(numbers))
        assert gateway.process.returncode == 0


@pytest.fixture
def signals() -> EndingSignals:
    return EndingSignals()


def test_each_signal_is_returned_for_once_whether_it_came_before_the_wait_or_during_it(signals: EndingSignals) -> None:
    async def until_three() -> None:
        for _ in range(2):
            await signals.next()
        with anyio.move_on_after(0):
            await signals.next()
            raise AssertionError("a signal that did not come")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(signals.next)
            await anyio.lowlevel.checkpoint()
            os.kill(os.getpid(), signal.SIGTERM)

    with caught_for_a_while(signals):
        for number in NUMBERS:
            os.kill(os.getpid(), number)
        anyio.run(until_three)


@contextmanager
def caught_for_a_while(signals: EndingSignals) -> Iterator[None]:
    """Leave the block as an error does, so that signals are not ignored from there on."""
    with suppress(InterruptedError), signals.caught():
        yield
        raise InterruptedError


def test_an_error_leaves_the_handlers_that_were_there_and_an_orderly_end_ignores_signals(
    signals: EndingSignals,
) -> None:
    before = [signal.getsignal(number) for number in NUMBERS]
    with pytest.raises(InterruptedError), signals.caught():
        raise InterruptedError
    assert [signal.getsignal(number) for number in NUMBERS] == before
    try:
        with signals.caught():
            pass
        assert [signal.getsignal(number) for number in NUMBERS] == [signal.SIG_IGN] * 2
    finally:
        for number, handler in zip(NUMBERS, before, strict=True):
            signal.signal(number, handler)
