"""Any answer, in any pieces, to a client that reads at any pace, ends truthfully whatever happens at whatever moment.

Time is virtual and the sidecar a script, so that a moment can lie between any two steps of the gateway.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.types import Message

from mlx_sidecar_client import GenerateResult, RpcError, SidecarLost
from mlx_sidecar_client.protocol.errors import PoisonRequest
from mlx_sidecar_gateway.core.faults import SHUTTING_DOWN
from mlx_sidecar_gateway.core.gateway import Gateway
from mlx_sidecar_gateway.surfaces.events import Delta, Reasoning, Text
from tests.gateway.answers import answers, result
from tests.gateway.endings import Ended, Spoken, Untruthful, streaming_routes
from tests.gateway.in_memory import Visit
from tests.gateway.scripted import ScriptedSidecar, Step, gateway_over, plain
from tests.gateway.virtual_time import in_virtual_time

LONGEST_PAUSE_S = (
    0.3  # of a client: when the gateway ends it has a second to take what is written, its head and the end
)

Happens = Literal["nothing", "the gateway ends", "the client leaves", "the client leaves and writing fails"]

each_route = pytest.mark.parametrize("spoken", streaming_routes(), ids=lambda spoken: spoken.path)
moments = st.floats(0, 3).map(lambda seconds: round(seconds, 2))


@dataclass(frozen=True)
class Schedule:
    """All that is left to chance of one answer."""

    events: list[Delta]
    steps: list[Step]
    ending: GenerateResult | Exception
    pauses_s: list[float]  # before the client takes each part; none behind the last
    has_parts: bool  # whether the server writes parts at once while the client does not pause
    happens: Happens
    at_s: float


@st.composite
def schedules(draw: st.DrawFn) -> Schedule:
    events, whole = draw(answers())
    steps: list[Step] = []
    rest = [plain(event) for event in events]
    while rest:
        count = draw(st.integers(1, len(rest)))
        if draw(st.booleans()):
            steps.append(draw(moments))
        steps.append(rest[:count])
        rest = rest[count:]
    endings: list[GenerateResult | Exception] = [whole, whole, result("deadline"), PoisonRequest("died"), _lost()]
    return Schedule(
        events,
        steps,
        draw(st.sampled_from(endings)),
        draw(st.lists(st.floats(0, LONGEST_PAUSE_S), max_size=6)),
        draw(st.booleans()),
        draw(st.sampled_from(get_args(Happens))),
        draw(moments),
    )


def _lost() -> SidecarLost:
    return SidecarLost("it was killed", exit_status=-9)


class _Paced(Visit):
    """A client that takes its time before each part, as a server does that waits for its socket."""

    def __init__(self, *request: Any, pauses_s: list[float], has_parts: bool) -> None:
        super().__init__(*request, has_parts=has_parts)
        self._pauses_s = list(pauses_s)

    @property
    def are_taken(self) -> bool:
        return super().are_taken and not self._pauses_s

    async def send(self, message: Message) -> None:
        if self._pauses_s:
            await anyio.sleep(self._pauses_s.pop(0))
        await super().send(message)


async def _happen(schedule: Schedule, gateway: Gateway, visit: _Paced) -> None:
    await anyio.sleep(schedule.at_s)
    if schedule.happens == "the gateway ends":
        gateway.stop_answers()
    elif schedule.happens != "nothing" and not visit.is_complete:
        visit.is_gone = "fails" in schedule.happens
        visit.leaves.set()


async def _play(schedule: Schedule, spoken: Spoken) -> tuple[Gateway, _Paced, ScriptedSidecar]:
    sidecar = ScriptedSidecar(schedule.steps, schedule.ending)
    gateway, app = gateway_over(sidecar)
    visit = _Paced(app, spoken.path, spoken.body("any"), pauses_s=schedule.pauses_s, has_parts=schedule.has_parts)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_happen, schedule, gateway, visit)
        await visit.run()
    return gateway, visit, sidecar


def _undisturbed(schedule: Schedule, spoken: Spoken) -> Ended:
    sidecar = ScriptedSidecar([[plain(event) for event in schedule.events]], _whole(schedule))
    _, app = gateway_over(sidecar)
    visit = Visit(app, spoken.path, spoken.body("any"))
    in_virtual_time(visit.run)
    return spoken.ended(visit.status, visit.body)


def _whole(schedule: Schedule) -> GenerateResult:
    return schedule.ending if isinstance(schedule.ending, GenerateResult) else result()


def _expected(ending: GenerateResult | Exception) -> str | None:
    """The kind of the error that the sidecar's ending is; None for a whole one."""
    if isinstance(ending, RpcError):
        return ending.kind
    if isinstance(ending, SidecarLost):
        return "engine_lost"
    assert isinstance(ending, GenerateResult)
    return "deadline_passed" if ending.finish_reason == "deadline" else None


@each_route
@settings(max_examples=60)
@given(schedule=schedules())
def test_every_schedule_ends_in_one_truthful_way(spoken: Spoken, schedule: Schedule) -> None:
    gateway, visit, sidecar = in_virtual_time(lambda: _play(schedule, spoken))
    assert all(stream.is_left for stream in sidecar.streams)
    assert not gateway.answers
    (outcome,) = gateway.outcomes
    if not visit.is_complete:
        assert schedule.happens.startswith("the client leaves")
        assert outcome == "disconnected"
        return
    ended = spoken.ended(visit.status, visit.body)
    possible = {_expected(schedule.ending)} | (
        {SHUTTING_DOWN.kind} if schedule.happens == "the gateway ends" else set()
    )
    assert ended.error in possible or (ended.error == "response.failed" and possible != {None})
    if ended.error is None:
        assert isinstance(schedule.ending, GenerateResult)
        assert outcome == schedule.ending.finish_reason
    assert ended.begins(_undisturbed(schedule, spoken))


@each_route
def test_a_stream_that_is_cut_behind_any_event_is_not_taken_for_ended(spoken: Spoken) -> None:
    events: list[Delta] = [Reasoning("why"), Text("Hi"), Text(" you")]
    sidecar = ScriptedSidecar([[plain(event)] for event in events], result(text="Hi you", reasoning="why"))
    visit = Visit(gateway_over(sidecar)[1], spoken.path, spoken.body("any"))
    in_virtual_time(visit.run)
    assert spoken.ended(visit.status, visit.body).error is None
    between = b"\n\n" if visit.headers["content-type"] == "text/event-stream" else b"\n"
    parts = visit.body.split(between)[:-1]
    for count in range(len(parts)):
        with pytest.raises(Untruthful):
            spoken.read(b"".join(part + between for part in parts[:count]))
