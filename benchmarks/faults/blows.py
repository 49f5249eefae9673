"""Signals to the engine at moments that a seed picks, and how long its front took to replace it."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import statistics
import time
from dataclasses import dataclass, field

from .host import Host, State

_LONGEST_LIFE_S = 1.5  # of an engine that is ready, until it is struck
_FIRST_START_S = 1.0  # before any was measured
_CHILD_EVERY_S = 0.002


@dataclass
class Blows:
    """Seconds of each blow: until the host was told of the loss, and from there until an engine was ready."""

    noticed_s: list[float] = field(default_factory=list)
    replaced_s: list[float] = field(default_factory=list)
    while_starting: int = 0


async def strike(host: Host, signals: list[signal.Signals], source: random.Random) -> Blows:
    """Send the engine each of ``signals``, every third while it starts or loads again; return when one is ready.

    SIGSTOP never comes while it starts, because a start may take minutes on a slow disk, and a hang in it is noticed
    after minutes.

    Raises Stuck if the host is not told of a loss, or no engine gets ready.
    """
    blows = Blows()
    since = 0
    for number, blow in enumerate(signals):
        early = number % 3 == 2 and blow != signal.SIGSTOP
        pid = await (_starting(host, since, blows, source) if early else _ready(host, since, source))
        struck_s = time.monotonic()
        os.kill(pid, blow)
        lost = await host.entered("lost", len(host.states))
        blows.noticed_s.append(lost.at_s - struck_s)
        since = lost.number + 1
    ready = await host.entered("ready", since)
    blows.replaced_s = replaced(host.states[: ready.number + 1])
    return blows


async def _ready(host: Host, since: int, source: random.Random) -> int:
    """Return the engine a while after it is ready."""
    state = await host.entered("ready", since)
    await asyncio.sleep(source.uniform(0, _LONGEST_LIFE_S))
    assert state.pid is not None
    return state.pid


async def _starting(host: Host, since: int, blows: Blows, source: random.Random) -> int:
    """Return the engine somewhere between its start and the moment at which it would be ready."""
    await host.entered("starting", since)
    measured = replaced(host.states)
    await asyncio.sleep(source.uniform(0, statistics.median(measured) if measured else _FIRST_START_S))
    while (pid := host.engine_pid()) is None:
        await asyncio.sleep(_CHILD_EVERY_S)
    blows.while_starting += host.states[-1].name != "ready"
    return pid


def replaced(states: list[State]) -> list[float]:
    """Seconds from each loss to the next ready engine; a loss that another one follows has none."""
    found, lost_s = [], None
    for state in states:
        if state.name == "lost":
            lost_s = state.at_s
        elif state.name == "ready" and lost_s is not None:
            found.append(state.at_s - lost_s)
            lost_s = None
    return found
