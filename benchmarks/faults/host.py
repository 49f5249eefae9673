"""A host that watches its sidecar closely: promises, states of the engine, pings."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Collection, Sequence
from contextlib import suppress
from itertools import pairwise
from typing import NamedTuple, TypeVar

import psutil

from ..promises import Frame, Promises
from ..serving.request import ContenderFailed
from ..serving.sidecar import SERVE, Connection

PATIENCE_S = 60.0  # a host that is owed an answer and reads nothing for so long has found a hang
_PING_EVERY_S = 0.02
_ACK_WITHIN_S = 0.02
T = TypeVar("T")

# State → states that may follow. A failed start is a loss too; after giving up, a host's load starts an engine.
_NEXT = {
    "starting": {"ready", "lost", "failed"},
    "ready": {"lost", "failed"},
    "lost": {"starting", "failed"},
    "failed": {"starting"},
}


class Stuck(Exception):
    """A promised event did not happen in any reasonable time."""


class State(NamedTuple):
    """An ``engine/state``, the ``number``-th of its host, read at ``at_s`` on the monotonic clock."""

    number: int
    at_s: float
    name: str
    restarts: int
    pid: int | None
    because: str | None


class Pings:
    """Seconds of each ping: how long its answer took, and for how long of that the host did not look.

    The host shares cores with the engine, and its own lateness is not the sidecar's fault.
    """

    def __init__(self) -> None:
        self.took_s: list[float] = []
        self.own_s: list[float] = []
        self.at_s: list[float] = []  # when it was sent, on the monotonic clock
        self._sent: dict[int, float] = {}
        self._judged = 0

    def sent(self, id_: int, at_s: float) -> None:
        self._sent[id_] = at_s

    def answered(self, id_: int, at_s: float) -> bool:
        """Whether the answered request was a ping."""
        if (sent_s := self._sent.pop(id_, None)) is None:
            return False
        self.took_s.append(at_s - sent_s)
        self.own_s.append(0.0)
        self.at_s.append(sent_s)
        return True

    def woke(self, late_s: float) -> None:
        """Note that the host was ``late_s`` late, and so read late everything since it was last on time."""
        for n in range(self._judged, len(self.own_s)):
            self.own_s[n] = late_s
        self._judged = len(self.own_s)

    @property
    def sidecars_s(self) -> list[float]:
        """Seconds of each ping without those that the host was late itself."""
        return [took - own for took, own in zip(self.took_s, self.own_s, strict=True)]


class Host:
    """One sidecar, from ``async with`` to its end. ``options`` are those of ``mlx-sidecar serve``."""

    def __init__(self, *options: str, command: Sequence[str] = SERVE) -> None:
        self.promises = Promises()
        self.states: list[State] = []
        self.pings = Pings()
        self.logged: list[Frame] = []
        self.heard_s = time.monotonic()  # when a frame about a request or the engine was read
        self.interrupted = asyncio.Event()  # some stream was
        self._options = options
        self._connection = Connection(self._hear, self._lost, command)
        self._answers: dict[int, asyncio.Future[Frame]] = {}
        self._first_deltas: dict[object, asyncio.Future[float]] = {}
        self._entered = asyncio.Event()
        self._gone = False

    async def __aenter__(self) -> Host:
        await within("an answer to initialize", self._connection.open(*self._options))
        self._pinging = asyncio.create_task(self._ping())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._pinging.cancel()
        self.promises.broken += [f"{id_}: no answer" for id_ in self.promises.unanswered]
        try:
            await asyncio.wait_for(self._connection.close(), PATIENCE_S)
        except TimeoutError:
            self.promises.broken.append("the sidecar did not leave when its host did")
            for process in [*self.front.children(), self.front]:
                process.kill()

    @property
    def front(self) -> psutil.Process:
        return psutil.Process(self._connection.pid)

    # Requests.

    def ask(self, params: Frame, may: Collection[str] = ()) -> asyncio.Future[Frame]:
        """Send a ``generate`` and return its answer, also an error. Errors of the kinds in ``may`` break no promise."""
        if self._gone:
            raise ContenderFailed("the sidecar is gone")
        id_ = self._connection.send("generate", params)
        self.promises.asked(id_, params, may)
        answer = self._answers[id_] = asyncio.get_running_loop().create_future()
        return answer

    def cancel(self, answer: asyncio.Future[Frame]) -> None:
        """Cancel a request that has not been answered."""
        for id_, open_ in self._answers.items():
            if open_ is answer:
                self.promises.cancelled(id_)
                self._connection.notify("$/cancelRequest", {"id": id_})

    async def call(self, method: str, params: Frame) -> Frame:
        """Return the result of another method. Raises ContenderFailed if it is an error."""
        return await within(f"an answer to {method}", self._connection.call(method, params))

    async def answer(self, method: str, params: Frame, patience_s: float = PATIENCE_S) -> Frame:
        """Return the answer to another method, also an error. Raises Stuck if none comes."""
        return await within(f"answer to {method}", self._connection.answer(method, params), patience_s)

    def next_delta(self, stream: object = None) -> asyncio.Future[float]:
        """Wait for the next delta of ``stream``, or of any; return its time on the monotonic clock."""
        return self._first_deltas.setdefault(stream, asyncio.get_running_loop().create_future())

    def read(self, going_on: bool) -> None:
        """Stop reading, or go on."""
        self._connection.read(going_on)

    # The engine.

    async def entered(self, name: str, since: int = 0) -> State:
        """Wait for the first state of that name numbered at least ``since``. Raises Stuck."""
        return await within(f"engine/state {name}", self._until(name, since))

    async def _until(self, name: str, since: int) -> State:
        while True:
            for state in self.states[since:]:
                if state.name == name:
                    return state
            self._entered.clear()
            await self._entered.wait()

    def engine_pid(self) -> int | None:
        """Return the pid of the engine, ready or not; None between two."""
        for child in self.front.children():
            with suppress(psutil.NoSuchProcess):  # it is gone by now
                if child.status() != psutil.STATUS_ZOMBIE and is_engine(child):
                    return child.pid
        return None

    # Messages of the sidecar.

    def _hear(self, frame: Frame, at_s: float) -> None:
        if "method" in frame:
            self._told(frame["method"], frame["params"], at_s)
        elif not self.pings.answered(frame["id"], at_s):
            self.heard_s = at_s
            self.promises.answered(frame)
            if (answer := self._answers.pop(frame["id"], None)) is not None and not answer.done():
                answer.set_result(frame)

    def _told(self, method: str, params: Frame, at_s: float) -> None:
        if method == "stream/delta":
            self.heard_s = at_s
            self.promises.delta(params)
            self._acknowledge(params)
            for stream in (params["stream"], None):
                if (awaited := self._first_deltas.pop(stream, None)) is not None:
                    awaited.set_result(at_s)
        elif method == "stream/interrupted":
            self.promises.interrupted(params)
            self.interrupted.set()
        elif method == "log":
            self.logged.append(params)
        elif method == "engine/state":
            self.heard_s = at_s
            self._state(params, at_s)

    def _state(self, params: Frame, at_s: float) -> None:
        name = params["state"]
        state = State(len(self.states), at_s, name, params["restarts"], params.get("pid"), params.get("because"))
        self.states.append(state)
        if name in ("lost", "failed"):
            self.promises.engine_lost()
        elif name == "ready":
            self.promises.engine_ready()
        self._entered.set()

    def _acknowledge(self, delta: Frame) -> None:
        """Acknowledge a delta, if its stream has a window."""
        if str(delta["stream"]).endswith("/window"):
            told = {"stream": delta["stream"], "seq": delta["seq"]}
            asyncio.get_running_loop().call_later(_ACK_WITHIN_S, self._connection.notify, "stream/ack", told)

    def _lost(self, why: str) -> None:
        self._gone = True
        self.promises.broken.append(why)
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(ContenderFailed(why))

    async def _ping(self) -> None:
        due_s = time.monotonic()
        while not self._gone:
            now = time.monotonic()
            self.pings.woke(now - due_s)
            self.pings.sent(self._connection.send("ping", {}), now)
            due_s = max(due_s + _PING_EVERY_S, now)
            await asyncio.sleep(due_s - now)


def is_engine(child: psutil.Process) -> bool:
    """Whether a child of the front is the engine, not a text process. Raises psutil.NoSuchProcess."""
    return "mlx_sidecar.engine" in child.cmdline()


async def within(what: str, awaited: Awaitable[T], patience_s: float = PATIENCE_S) -> T:
    """Return the outcome of ``awaited``. Raises Stuck if it does not come in time."""
    try:
        return await asyncio.wait_for(awaited, patience_s)
    except TimeoutError:
        raise Stuck(f"no {what} in {patience_s:g} s") from None


def state_faults(states: Sequence[State]) -> list[str]:
    """List the ``engine/state`` out of order: each loss is followed by a start, and counted once."""
    faults = []
    for before, after in pairwise(states):
        if after.name not in _NEXT[before.name]:
            faults.append(f"engine/state {after.name} after {before.name}")
        if after.restarts - before.restarts != (after.name == "starting"):
            faults.append(f"engine/state {after.name} with restarts {after.restarts} after {before.restarts}")
    return faults
