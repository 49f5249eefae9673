"""Parameters of the notifications that the sidecar sends."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from .generate_result import Logprob
from .model import Count, ProgressToken, Sent, StreamId, TokenId
from .tools import ToolCallDelta

EngineState = Literal["starting", "ready", "lost", "failed", "stopped"]
LogLevel = Literal["debug", "info", "warning", "error"]


class StreamDelta(Sent):
    """More of a stream. Deltas are numbered from 0 without gaps; their texts in order are the final text.

    So are the reasonings, and the arguments of each call. A delta has more of one of the three.
    """

    stream: StreamId
    seq: Count
    offset: Count = Field(description="Unicode code points of the answer's text before this one")
    text: str
    reasoning: str | None = Field(default=None, description="more of the reasoning")
    reasoning_offset: Count | None = Field(default=None, description="with reasoning: code points of it before this")
    tool_calls: list[ToolCallDelta] | None = None
    tokens: list[TokenId]
    logprobs: list[Logprob] | None = Field(default=None, description="one for each of tokens, if asked for")


class StreamInterrupted(Sent):
    """The engine behind a stream was lost; the next delta continues where the last one ended."""

    stream: StreamId
    because: str
    last_seq: Count | None = Field(default=None, description="number of the last delta; absent if there was none")


class ProgressParams(Sent):
    """The progress of a request with a ``progress`` token."""

    token: ProgressToken
    model: str
    stage: str = Field(description="downloading, reading, converting, building or another word, to be shown to users")
    done_bytes: Count
    total_bytes: Count | None = Field(default=None, description="absent while it is not known")


class LogParams(Sent):
    """A line for the host's log, sent after ``initialize``; before it, logs go to stderr."""

    level: LogLevel
    message: str
    logger: str | None = None


class EngineStateParams(Sent):
    """The engine process changed its state: ``lost`` is followed by ``starting`` or, given up, by ``failed``."""

    state: EngineState
    restarts: Count
    pid: Count | None = None
    backend: str | None = None
    device: str | None = None
    because: str | None = Field(default=None, description="the reason, with lost and failed")
