"""Records: one of each request, from which its log line, its metrics, its spans and its row on the live page are made.

The core fills a record where the thing itself happens, and hands it to the listeners once, at the end of the request.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from mlx_sidecar_client import GenerateResult
from mlx_sidecar_client.protocol.generate_result import Timing, Usage

from ..surfaces.faults import Fault

log = logging.getLogger("mlx_sidecar_gateway")

ANSWERED = "answered"  # the outcome of a request that generates nothing, such as a list of models
DISCONNECTED = "disconnected"
_LONGEST_STATE = 512  # characters of ``tracestate``, as its specification has it
_LONGEST_CLIENT = 200  # characters of ``user-agent``: a client may send anything


@dataclass(slots=True)
class Record:
    """One request. Durations are in seconds from its arrival; those that did not come to pass are None.

    id: The ``x-request-id`` of its answer.
    came_unix_s, came_s: Its arrival, in seconds since 1970, and by the monotonic clock.
    method, path: Those of its request line; ``route`` is the path of the route that it took, empty if there was none.
    client: Its ``user-agent``; ``retry`` is the number of this try, as the SDKs count them.
    traceparent, tracestate: The headers by which a trace goes on, as they came.
    surface, key, model: The name of each; empty until it is known. ``model`` is the name that the client gave.
    provider: Where the answer came from; "local" is the gateway's own sidecar.
    generates: Whether the request asks for a generation; ``is_streamed``, whether it asks for a stream.
    priority: The one that it runs with, which an objective may have raised above ``asked_priority``, that of the
        client; empty if it was not admitted.
    ignored: Names of parameters that were left aside.
    status: Of the response; 0 if none began.
    outcome: A finish reason, the kind of a fault, ``ANSWERED`` or ``DISCONNECTED``; empty while it runs.
    message, fault_status: Those of the fault, of which a stream that had begun can no more have the status.
    first_token_s: When the first part of the answer was there.
    longest_gap_s: The longest time between two parts of a streamed answer.
    tokens: Those of the answer that came, also of one that was cut off, and so far of a streamed one that runs.
    tool_calls: Of the whole calls in the result the id and the name.
    received_bytes, sent_bytes: Those of the two bodies.
    body: That of the request, JSON, while ``Records.keeps_bodies``; else empty.
    usage, timing: Those of the result; None of an answer that has none.
    missed: Why the prompt left the cached ones, if the request asked for that; empty if all of it was cached.
    """

    id: str
    method: str
    path: str
    client: str = ""
    retry: int = 0
    came_unix_s: float = field(default_factory=time.time)
    came_s: float = field(default_factory=time.monotonic)
    traceparent: str = ""
    tracestate: str = ""
    route: str = ""
    surface: str = ""
    key: str = ""
    model: str = ""
    provider: str = "local"
    generates: bool = False
    is_streamed: bool = False
    priority: str = ""
    asked_priority: str = ""
    ignored: tuple[str, ...] = ()
    status: int = 0
    outcome: str = ""
    message: str = ""
    fault_status: int = 0
    first_token_s: float | None = None
    longest_gap_s: float | None = None
    duration_s: float | None = None
    tokens: int = 0
    pings: int = 0
    received_bytes: int = 0
    sent_bytes: int = 0
    tool_calls: tuple[tuple[str, str], ...] = ()
    body: bytes = field(default=b"", repr=False)
    usage: Usage | None = None
    timing: Timing | None = None
    missed: str = ""
    _last_part_s: float = 0.0

    @classmethod
    def of(cls, request_id: str, method: str, path: str, headers: Mapping[str, str]) -> Record:
        """The record of a request that has just come, with these headers by their lower-case names."""
        retry = headers.get("x-stainless-retry-count", "")
        return cls(
            request_id,
            method,
            path,
            client=headers.get("user-agent", "")[:_LONGEST_CLIENT],
            retry=int(retry) if retry.isdecimal() and len(retry) < 4 else 0,
            traceparent=headers.get("traceparent", ""),
            tracestate=headers.get("tracestate", "")[:_LONGEST_STATE],
        )

    @property
    def age_s(self) -> float:
        """The seconds since it came."""
        return time.monotonic() - self.came_s

    def part(self, tokens: int, now_s: float) -> None:
        """A part of the answer came from the engine, which has so many tokens with it; the clock is the monotonic."""
        age_s, self.tokens = now_s - self.came_s, tokens
        if self.first_token_s is None:
            self.first_token_s = age_s
        elif self.longest_gap_s is None or age_s - self._last_part_s > self.longest_gap_s:
            self.longest_gap_s = age_s - self._last_part_s
        self._last_part_s = age_s

    @property
    def silence_s(self) -> float | None:
        """The seconds from the last part of the answer to the end of the request; None while it has not ended."""
        return None if self.duration_s is None else self.duration_s - self._last_part_s

    def fault(self, fault: Fault) -> None:
        """The request is refused with ``fault``, or its answer broke off."""
        self.outcome, self.message, self.fault_status = fault.kind, fault.message, fault.status

    def result(self, result: GenerateResult) -> None:
        """The generation has ended with ``result``."""
        self.usage, self.timing, self.tokens = result.usage, result.timing, result.usage.completion_tokens
        self.tool_calls = tuple((call.id, call.name) for call in result.tool_calls or ())
        if result.cache is not None and result.cache.because != "all_known":
            self.missed = result.cache.because
        if self.first_token_s is None:  # of an answer that is not streamed the engine alone knows
            self.first_token_s = result.timing.first_token_s


class Records:
    """The records of requests that run, by their id, and the listeners to those that have ended.

    ``keeps_bodies``: whether records have the bodies of their requests, for a listener that takes them.
    """

    def __init__(self) -> None:
        self.running: dict[str, Record] = {}
        self.listeners: list[Callable[[Record], None]] = []
        self.keeps_bodies = False

    def begin(self, record: Record) -> None:
        self.running[record.id] = record

    def end(self, record: Record) -> None:
        """Tell each listener; one that fails is logged, and changes neither the answer nor the other listeners."""
        del self.running[record.id]
        record.duration_s = record.age_s
        for listener in self.listeners:
            try:
                listener(record)
            except Exception:
                log.exception("request %s: a listener failed", record.id)
