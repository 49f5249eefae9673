"""The events of a stream are encoded here as JSON-RPC notifications."""

from __future__ import annotations

from typing import Any

from mlx_sidecar_protocol.envelope import encode_notification
from mlx_sidecar_protocol.notifications import StreamInterrupted

from ..stream_events import Delta, Notice, StreamEvent


def encoded(event: StreamEvent) -> bytes:
    """The body of the notification that tells ``event``."""
    return _delta(event) if isinstance(event, Delta) else _interrupted(event)


def _delta(delta: Delta) -> bytes:
    # A ``StreamDelta``, without making the model, because this is done for each token. The channel is not told, because
    # every stream has the one that the contract knows.
    members: dict[str, Any] = {
        "stream": delta.stream,
        "seq": delta.seq,
        "offset": delta.offset,
        "text": delta.text,
        "tokens": delta.tokens,
    }
    if delta.logprobs is not None:
        members["logprobs"] = delta.logprobs
    return encode_notification("stream/delta", members)


def _interrupted(notice: Notice) -> bytes:
    interrupted = StreamInterrupted(stream=notice.stream, because=notice.because, last_seq=notice.last_seq)
    return encode_notification("stream/interrupted", interrupted)
