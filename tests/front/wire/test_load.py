"""A front under load: long work does not hold up the event loop, and large results are like small ones."""

from __future__ import annotations

import asyncio
import json
from array import array
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlx_sidecar.front.api.offload import SLICE, object_json, off_loop
from mlx_sidecar_protocol.generate import Message
from tests.support.sidecar import Sidecar, sidecar

TEXT = "How do I cancel a stream? Send stream/cancel with its name. " * 5000
TURNS = 100  # of the loop: far more than it could take if the work held the interpreter, far less than it takes


@pytest.fixture(scope="module")
def shared() -> Iterator[Sidecar]:
    """One sidecar for all methods."""
    with sidecar() as process:
        yield process


@pytest.mark.parametrize("method", ["tokenize", "render", "generate"])
def test_a_ping_overtakes_a_megabyte(shared: Sidecar, method: str) -> None:
    params: dict[str, Any] = {"text": TEXT * 3}
    if method != "tokenize":
        params = {"messages": [{"role": "user", "content": TEXT * 3}]}
    shared.call("tokenize", {"model": "pocket", "text": "warm"})
    large = shared.request(method, {"model": "pocket", **params})
    ping = shared.request("ping")
    shared.answer(large)
    shared.answer(ping)
    answers = [frame["id"] for frame in shared.frames if "method" not in frame]
    assert answers.index(ping) < answers.index(large)


def test_a_chat_is_large_by_what_its_messages_hold() -> None:
    async def thread_of(length: int) -> bool:
        loop_thread = asyncio.get_running_loop()
        message = Message(role="user", content="x" * length)
        return await off_loop(lambda _: _running_loop() is loop_thread, [message])

    assert asyncio.run(thread_of(10))
    assert not asyncio.run(thread_of(10_000))


def test_as_many_texts_are_large_as_characters() -> None:
    async def stays(pieces: list[str]) -> bool:
        loop = asyncio.get_running_loop()
        return await off_loop(lambda _: _running_loop() is loop, {"pieces": pieces})

    assert asyncio.run(stays([""] * 10))
    assert not asyncio.run(stays([""] * 10_000))


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


@given(
    st.lists(st.integers(0, 2**31 - 1), max_size=5),
    st.sampled_from([0, 1, SLICE - 1, SLICE, SLICE + 1, 2 * SLICE + 3]),
    st.none() | st.lists(st.text(), max_size=5),
    st.text(min_size=1),
)
def test_json_made_in_slices_is_the_json(few: list[int], many: int, strings: list[str] | None, text: str) -> None:
    long = (text * many)[:many]
    members: dict[str, Any] = {"few": few, "many": list(range(many)), "count": many, "strings": strings, "long": long}
    expected = {name: value for name, value in members.items() if value is not None}
    packed = memoryview(array("I", range(many)))
    assert json.loads(object_json({**members, "packed": packed})) == {**expected, "packed": packed.tolist()}
