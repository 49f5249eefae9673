"""The small host of the command line against sidecars that die, refuse or hang: it never waits for ever."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest

from mlx_sidecar.host import Host, SidecarError, SidecarGone

FAKE = ("--engine", "fake")
SLOW = {"model": "fake?tokens=1000&delay_ms=20", "prompt": "x"}


def test_a_message_the_sidecar_cannot_read_is_an_error_of_the_call_that_wrote_it() -> None:
    with Host(*FAKE, "--frame-limit-bytes", "1000") as host:
        with pytest.raises(SidecarError, match="longer than 1000 bytes"):
            host.call("tokenize", {"model": "fake", "text": "x" * 2000})
        assert host.call("ping") == {}


def test_a_sidecar_that_was_killed_is_gone_for_what_waits_and_for_what_comes_later() -> None:
    with Host(*FAKE) as host:

        def kill(_: dict[str, Any]) -> None:
            os.kill(host.pid, signal.SIGKILL)

        with pytest.raises(SidecarGone, match="-9"):
            host.generate(SLOW, kill)
        with pytest.raises(SidecarGone):  # noqa: PT012 - how many writes the pipe still takes is its own affair
            while True:
                host.call("ping")


def test_leaving_the_block_with_something_unwritten_raises_nothing_of_its_own() -> None:
    with pytest.raises(SidecarGone), Host(*FAKE) as host:  # noqa: PT012 - the end of the block is what is tested
        os.kill(host.pid, signal.SIGKILL)
        while True:
            host.notify("initialized")


def test_a_first_interrupt_cancels_and_a_second_one_is_raised() -> None:
    def interrupt(_: dict[str, Any]) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    def interrupt_twice(delta: dict[str, Any]) -> None:
        interrupt(delta)
        interrupt(delta)

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), Host(*FAKE) as host:  # noqa: PT012 - the first half raises nothing
        assert host.generate({**SLOW, "min_interval_ms": 60_000}, interrupt)["finish_reason"] == "cancelled"
        assert signal.getsignal(signal.SIGINT) is before
        host.generate(SLOW, interrupt_twice)
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize("moment", ["before", "behind"])
def test_an_interrupt_beside_the_writing_of_a_request_cancels_it(monkeypatch: pytest.MonkeyPatch, moment: str) -> None:
    with Host(*FAKE) as host:
        write = host._write

        def interrupted(frame: dict[str, Any]) -> None:
            if moment == "before" and "id" in frame:
                os.kill(os.getpid(), signal.SIGINT)
            write(frame)
            if moment == "behind" and "id" in frame:
                os.kill(os.getpid(), signal.SIGINT)

        monkeypatch.setattr(host, "_write", interrupted)
        with pytest.raises(SidecarError, match="cancelled"):
            host.call_unless_interrupted("load", {"model": "fake?load_ms=60000"})
        with pytest.raises(SidecarError, match="cancelled"):  # no text yet, for the model is not loaded
            host.generate({"model": "fake?load_ms=60000", "prompt": "x"}, lambda _: None)
        monkeypatch.undo()
        assert host.call("ping") == {}


def test_an_interrupt_behind_an_answer_cancels_nothing_that_comes_later() -> None:
    with Host(*FAKE) as host:

        def interrupt_at_the_end(delta: dict[str, Any]) -> None:
            if delta["text"].endswith("z"):
                os.kill(os.getpid(), signal.SIGINT)

        short = {"model": "fake?text=xyz", "prompt": "x"}
        host.generate(short, interrupt_at_the_end)
        assert host.generate(short, lambda _: None)["finish_reason"] == "stop"
