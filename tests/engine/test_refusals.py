"""A message that the engine cannot read, carry out or encode fails its own request, and nothing else ends."""

from __future__ import annotations

import struct
from typing import Any

import msgspec
import pytest

from mlx_sidecar.engine.refusals import encoded
from mlx_sidecar.link.cache_messages import CacheCleared
from mlx_sidecar.link.codec import Decoder, LinkCorrupt, Unreadable, encode
from mlx_sidecar.link.control_messages import EngineStats, Load, Loaded, ModelCard, Progress, QueryStats
from mlx_sidecar.link.messages import (
    Dropped,
    Evicted,
    Fault,
    Finished,
    Generate,
    Refused,
    Sampling,
    Submit,
    Timing,
    ToEngine,
    ToFront,
    Tokens,
)
from tests.support.engine_process import ready_engine
from tests.support.link import feed

TOO_LARGE = 10**31
OOPS = Fault("internal_error", "internal error")
CARD = ModelCard("m", "ready", "fake", context_length=TOO_LARGE)


def framed(members: dict[str, Any]) -> bytes:
    body = msgspec.msgpack.encode(members)
    return struct.pack("<I", len(body)) + body


def damaged(message: ToEngine, **members: Any) -> bytes:
    """A frame of ``message`` in which some members are not what they should be."""
    return framed({**msgspec.to_builtins(message), **members})


def said(message: ToFront) -> list[ToFront]:
    decoder: Decoder[ToFront] = Decoder(ToFront)  # type: ignore[arg-type]  # a union is not a type[T]
    return feed(decoder, encoded(message))


@pytest.mark.parametrize(
    ("message", "instead"),
    [
        (Loaded(3, CARD, 0.0), [Refused(3, OOPS)]),
        (CacheCleared(3, TOO_LARGE, 0), [Refused(3, OOPS)]),
        (Finished(4, "stop", True, Timing(), pinned=TOO_LARGE), [Finished(4, "error", True, Timing(), fault=OOPS)]),
        (Tokens(4, [TOO_LARGE]), [Finished(4, "error", True, Timing(), fault=OOPS)]),
        (Dropped([4], [4], Fault("x", "x", {"n": TOO_LARGE})), [Dropped([4], [4], OOPS)]),
        (Progress(3, "reading", 0, TOO_LARGE), []),
        (Evicted("\ud800"), []),
        (Loaded(3, ModelCard("m", "ready", "fake"), 0.0), [Loaded(3, ModelCard("m", "ready", "fake"), 0.0)]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_cannot_be_said_becomes_the_failure_of_what_it_answers(message: ToFront, instead: list[ToFront]) -> None:
    assert said(message) == instead


def test_what_cannot_be_read_is_answered_for_its_own_request_and_the_engine_goes_on() -> None:
    submit = Submit(7, "fake", [1], Generate(Sampling(), [], 5))
    with ready_engine(engine="fake") as engine:
        engine.load("fake")
        engine.link.sendall(damaged(Load(1001, "m", "fake"), pin=3))
        engine.link.sendall(damaged(submit, goal={"type": "Prefill", "pin": 3}))
        engine.link.sendall(damaged(QueryStats(1002), op=1002, more=[]))  # unknown members are no fault
        assert engine.wait(Refused).op == 1001
        ended = engine.finished(7)
        assert (ended.reason, ended.started, ended.fault) == ("error", False, OOPS)
        assert engine.wait(EngineStats).op == 1002
        assert engine.generate("fake", [1, 2], 5)


def test_a_frame_of_nobody_is_no_message() -> None:
    decoder: Decoder[ToEngine] = Decoder(ToEngine)  # type: ignore[arg-type]  # a union is not a type[T]
    assert decoder.feed(damaged(QueryStats(5), type="What")) == [Unreadable("What", 5)]
    for members in ({"type": "What"}, {"type": "QueryStats", "op": "x"}, {"type": "QueryStats", "op": None}):
        with pytest.raises(LinkCorrupt):
            Decoder(QueryStats).feed(framed(members))
    assert feed(Decoder(QueryStats), encode(QueryStats(1))) == [QueryStats(1)]
