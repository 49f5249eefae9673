"""The cost of an event that does not depend on the machine: what is called for it."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import pytest

from tests.gateway.support import HELLO, Running, ask, running

pytestmark = pytest.mark.anyio

MODEL = "fake?tokens=100&delay_ms=1"
BODIES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": HELLO, "stream": True},
    "/v1/completions": {"prompt": "Hello", "stream": True},
    "/v1/responses": {"input": "Hello", "stream": True},
    "/v1/messages": {"messages": HELLO, "stream": True},
    "/api/chat": {"messages": HELLO},
    "/api/generate": {"prompt": "Hello"},
}


@pytest.fixture(scope="module")
async def gateway(anyio_backend: str) -> AsyncIterator[Running]:
    async with running() as started:
        yield started


def _limit_of(path: str) -> str:
    return "max_output_tokens" if path.endswith("responses") else "max_tokens"


@contextmanager
def counted(package: str) -> Iterator[Counter[str]]:
    """Calls in this thread of functions of a package, in Python or not, by their names."""
    calls: Counter[str] = Counter()

    def look(frame: FrameType, event: str, function: Any) -> None:
        if event == "call" and f"/{package}" in frame.f_code.co_filename:
            calls[frame.f_code.co_qualname] += 1
        elif event == "c_call" and package in f"{function.__module__} {type(function.__self__).__module__}":
            calls[function.__qualname__] += 1

    sys.setprofile(look)
    try:
        yield calls
    finally:
        sys.setprofile(None)


@pytest.mark.parametrize("path", BODIES)
async def test_a_request_and_its_result_are_validated_and_no_delta_is(gateway: Running, path: str) -> None:
    async def calls(tokens: int) -> tuple[int, Counter[str]]:
        """The messages that were parsed, and all other calls."""
        limit = {"options": {"num_predict": tokens}} if path.startswith("/api") else {_limit_of(path): tokens}
        with counted("pydantic") as counts:
            response = await ask(gateway.port, path, {"model": MODEL, **BODIES[path], **limit})
        assert response.is_complete
        return counts.pop("from_json"), counts

    await calls(1)  # the first request completes what pydantic makes late
    (few, called), (many, called_for_many) = await calls(10), await calls(100)
    assert few < many
    assert called == called_for_many
