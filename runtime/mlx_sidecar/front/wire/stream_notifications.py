"""The events of a stream are encoded here as JSON-RPC notifications."""

from __future__ import annotations

from typing import Any

from mlx_sidecar_protocol.envelope import encode_notification

from ..channels import REASONING, TEXT
from ..stream_events import Delta, Notice, StreamEvent


def encoded(event: StreamEvent) -> bytes:
    """The body of the notification that tells ``event``."""
    return _delta(event) if isinstance(event, Delta) else _interrupted(event)


def _delta(delta: Delta) -> bytes:
    # A ``StreamDelta``, without making the model, because this is done for each token.
    channel = delta.channel
    members: dict[str, Any] = {
        "stream": delta.stream,
        "seq": delta.seq,
        "offset": delta.text_offset,
        "text": delta.text if channel == TEXT else "",
        "tokens": delta.tokens,
    }
    if channel == REASONING:
        members["reasoning"] = delta.text
        members["reasoning_offset"] = delta.offset
    elif channel != TEXT:
        members["tool_calls"] = [_call(delta)]
    if delta.logprobs is not None:
        members["logprobs"] = delta.logprobs
    return encode_notification("stream/delta", members)


def _call(delta: Delta) -> dict[str, Any]:
    begun = {} if delta.head is None else {"id": delta.head.id, "name": delta.head.name}
    return {"index": delta.channel, **begun, "arguments": delta.text}


def _interrupted(notice: Notice) -> bytes:
    # Imported here, because it is rare, and the answer to ``initialize`` need not wait for it.
    from mlx_sidecar_protocol.notifications import StreamInterrupted

    interrupted = StreamInterrupted(stream=notice.stream, because=notice.because, last_seq=notice.last_seq)
    return encode_notification("stream/interrupted", interrupted)
