"""What the host of a stream is told, as JSON-RPC notifications."""

from __future__ import annotations

from mlx_sidecar_protocol.envelope import encode_notification
from mlx_sidecar_protocol.notifications import StreamDelta, StreamInterrupted

from ..logprobs_json import WithLogprobs, logprobs_json
from ..stream_events import Delta, StreamEvent


def encoded(event: StreamEvent) -> bytes:
    """The body of the notification that tells ``event``."""
    if not isinstance(event, Delta):
        return encode_notification("stream/interrupted", StreamInterrupted(**event._asdict()))
    stream, seq, _, offset, text, tokens, logprobs = event  # every stream has one channel: the contract names none
    delta = StreamDelta(stream=stream, seq=seq, offset=offset, text=text, tokens=tokens)
    if logprobs is None:
        return encode_notification("stream/delta", delta)
    return encode_notification("stream/delta", WithLogprobs(delta, logprobs_json(logprobs)))
