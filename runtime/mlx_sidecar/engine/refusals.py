"""Answers to messages that cannot be read, carried out or encoded: only the request concerned fails."""

from __future__ import annotations

import logging

from mlx_sidecar_protocol.errors import InternalError, RpcError

from ..link.codec import Unreadable, encode
from ..link.control_messages import Progress
from ..link.faults import fault_of
from ..link.messages import Dropped, Evicted, Finished, Ready, Refused, Timing, ToEngine, ToFront, Tokens

log = logging.getLogger(__name__)


def refusal(message: ToEngine | Unreadable, error: RpcError) -> list[ToFront]:
    """Return the answer to ``message``, which failed with ``error``; none where the front waits for none."""
    op, seq = getattr(message, "op", None), getattr(message, "seq", None)
    if op is not None:
        return [Refused(op, fault_of(error))]
    if seq is not None:
        return [Finished(seq, "error", False, Timing(), fault=fault_of(error))]
    return []


def encoded(message: ToFront) -> bytes:
    """Encode ``message`` as a frame, or an error in its place where a number in it cannot cross the link."""
    try:
        return encode(message)
    except Exception:
        log.exception("a %s cannot be said", type(message).__name__)
    return b"".join(map(encode, _instead_of(message)))


def _instead_of(message: ToFront) -> list[ToFront]:
    fault = fault_of(InternalError())
    match message:
        case Progress() | Evicted() | Ready():
            return []  # answers nothing
        case Tokens() | Finished():
            return [Finished(message.seq, "error", True, Timing(), fault=fault)]
        case Dropped():
            return [Dropped(message.seqs, message.running, fault)]
        case _:
            return [Refused(message.op, fault)]
