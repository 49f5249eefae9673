"""The events of a running stream for its host are values: ``streams/`` makes them, ``wire/`` encodes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from mlx_sidecar_protocol.model import StreamId

from .channels import CallHead, Channel


class Delta(msgspec.Struct, frozen=True):
    """New text of a stream.

    ``offset`` counts the characters of ``channel`` before it, ``text_offset`` those of the answer's text.
    ``head``: the tool call whose channel this is begins here.
    ``logprobs`` are members of the contract's ``Logprob``, one for each of ``tokens``; None where they were not asked
    for.
    """

    stream: StreamId
    seq: int
    channel: Channel
    offset: int
    text: str
    tokens: list[int]
    text_offset: int
    head: CallHead | None = None
    logprobs: Sequence[Mapping[str, Any]] | None = None


class Notice(msgspec.Struct, frozen=True):
    """The engine behind a stream was lost. ``last_seq`` is the number of the last delta before; None without one."""

    stream: StreamId
    because: str
    last_seq: int | None


StreamEvent = Delta | Notice
