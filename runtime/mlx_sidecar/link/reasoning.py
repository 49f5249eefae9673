"""The budget of an answer's reasoning, as it crosses the link to an engine."""

from __future__ import annotations

import msgspec


class ReasoningBudget(msgspec.Struct, frozen=True):
    """Reasoning between the bytes ``begin`` and ``end`` has at most ``tokens`` tokens, markers not counted.

    It stands at the beginning of the answer, or anywhere in it and several times (``anywhere``). ``thinking``: the
    prompt has begun it. ``shown`` are the special tokens whose text counts as the answer's; that of others is empty.
    Where the budget is spent, one of ``instead`` must go on behind ``fork``, the first bytes of ``begin``, so that no
    reasoning begins again; without any it ends as soon as it has begun.
    """

    begin: bytes
    end: bytes
    thinking: bool
    tokens: int
    anywhere: bool = False
    shown: list[int] = []
    fork: bytes = b""
    instead: list[bytes] = []
