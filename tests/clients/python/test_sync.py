"""The client without an event loop."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from mlx_sidecar_client import SidecarClosed, SidecarLost, SyncSidecar
from mlx_sidecar_client.protocol.errors import InvalidParams

from .support import ENDLESS, FAKE, PATIENCE_S


def test_deltas_add_up_to_the_result() -> None:
    with SyncSidecar.spawn(**FAKE) as sidecar:
        stream = sidecar.generate("fake?tokens=3000", prompt="Hello")
        assert "".join(delta.text for delta in stream) == stream.result.text
        assert sidecar.generate("fake?text=hey", prompt="x").wait().text == "hey"


def test_leaving_the_block_cancels_and_another_thread_may_too() -> None:
    with SyncSidecar.spawn(**FAKE) as sidecar:
        with sidecar.generate(ENDLESS, prompt="Hello") as stream:
            next(stream)
        stream = sidecar.generate(ENDLESS, prompt="Hello")
        texts = [next(stream).text]
        canceller = threading.Thread(target=stream.cancel)
        canceller.start()
        texts += [delta.text for delta in stream]
        canceller.join(PATIENCE_S)
        assert stream.result.finish_reason == "cancelled"
        assert stream.result.text == "".join(texts)


def test_threads_share_a_sidecar() -> None:
    results: dict[int, str | None] = {}
    with SyncSidecar.spawn(**FAKE) as sidecar:

        def one(number: int) -> None:
            results[number] = sidecar.generate("fake?tokens=200", prompt=f"Hello {number}").wait().text

        threads = [threading.Thread(target=one, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE_S)
    assert len(set(results.values())) == 8


def test_errors_are_raised_as_they_are_and_the_sidecar_comes_back() -> None:
    with SyncSidecar.spawn(**FAKE) as sidecar:
        with pytest.raises(InvalidParams):
            sidecar.tokenize("", "text")
        stream = sidecar.generate(ENDLESS, prompt="Hello")
        next(stream)
        os.kill(sidecar.process_id(), signal.SIGKILL)
        with pytest.raises(SidecarLost) as caught:
            list(stream)
        assert caught.value.text
        sidecar.ping()
    with pytest.raises(SidecarClosed):
        sidecar.ping()
