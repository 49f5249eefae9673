"""Silence is filled with pings: a minute of prefill, a minute between two tokens, and one before the end."""

from __future__ import annotations

from asyncio import get_running_loop
from itertools import pairwise
from typing import Any

import pytest
from starlette.types import Message

from mlx_sidecar_gateway.surfaces.events import Text
from tests.gateway.answers import result
from tests.gateway.endings import Spoken, streaming_routes
from tests.gateway.in_memory import Visit
from tests.gateway.scripted import ScriptedSidecar, gateway_over, plain
from tests.gateway.virtual_time import VirtualLoop, in_virtual_time

MINUTE_S = 60.0
FIRST_S, PING_S = 0.1, 1.0
ALMOST_S = 1e-3  # sums of tenths, and turns of the loop


class _Clocked(Visit):
    """A visit that notes when parts of the body come."""

    def __init__(self, *request: Any) -> None:
        super().__init__(*request)
        self.came_s: list[float] = []

    async def send(self, message: Message) -> None:
        await super().send(message)
        if message["type"] == "http.response.body":
            self.came_s.append(_now_s())


def _now_s() -> float:
    loop = get_running_loop()
    assert isinstance(loop, VirtualLoop)
    return loop.time()


@pytest.mark.parametrize("spoken", streaming_routes(), ids=lambda spoken: spoken.path)
def test_no_silence_is_longer_than_a_ping_apart(spoken: Spoken) -> None:
    first, second = [plain(Text("one"))], [plain(Text(" two"))]
    sidecar = ScriptedSidecar([MINUTE_S, first, MINUTE_S, second, MINUTE_S], result(text="one two"))
    _, app = gateway_over(sidecar, ping_s=PING_S)
    visit = _Clocked(app, spoken.path, spoken.body("any"))
    in_virtual_time(lambda: visit.run(patience_s=None))
    ended = spoken.ended(visit.status, visit.body)
    assert (ended.text, ended.error) == ("one two", None)
    assert visit.came_s[0] <= FIRST_S + ALMOST_S
    assert max(later - earlier for earlier, later in pairwise(visit.came_s)) <= PING_S + ALMOST_S
    assert visit.came_s[-1] == pytest.approx(3 * MINUTE_S, abs=0.1)
    # One ping a second, and not more: in each minute 59 or 60, and the first one.
    assert 3 * 59 <= len(visit.came_s) - 3 <= 3 * 60 + 1
