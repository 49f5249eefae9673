"""The result of a generation is made here, from its stream and its ending."""

from __future__ import annotations

import time
from dataclasses import dataclass

from mlx_sidecar_protocol.envelope import Encodable
from mlx_sidecar_protocol.errors import InternalError, RpcError
from mlx_sidecar_protocol.generate import GenerateParams
from mlx_sidecar_protocol.generate_result import (
    CachedByTier,
    CacheExplanation,
    ErrorData,
    ErrorObject,
    GenerateResult,
    ResultWarning,
    Timing,
    Usage,
)
from mlx_sidecar_protocol.model import StreamId

from ...link import messages as link
from ..logprobs_json import WithLogprobs, logprobs_json
from ..streams.task import Ending
from ..streams.text_stream import TextStream
from .offload import off_loop

_OBJECTS_BYTES = 8192  # of a stream that has ended
_CHARACTER_BYTES = 2
_TOKEN_BYTES = 8


@dataclass(frozen=True)
class Answer:
    """The account of a generation; called, it makes the result. ``stream`` is None if the engine never had it.

    ``arrived`` is on the monotonic clock. The call comes with the writing: the last delta's number is known then.
    """

    stream_id: StreamId | None
    echo_text: bool
    seed: int
    arrived: float
    prompt_tokens: int
    load_s: float
    stream: TextStream | None
    ending: Ending
    logprobs: bytes | None = None
    explanation: CacheExplanation | None = None
    warnings: list[ResultWarning] | None = None

    def __call__(self) -> Encodable:
        result = self._result()
        return result if self.logprobs is None else WithLogprobs(result, self.logprobs)

    @property
    def held_bytes(self) -> int:
        """About the bytes that are held until it is written."""
        characters, tokens = self.stream.transcript.published if self.stream else (0, 0)
        text_bytes = _CHARACTER_BYTES * characters + _TOKEN_BYTES * (tokens + self.prompt_tokens)
        return _OBJECTS_BYTES + text_bytes + len(self.logprobs or b"")

    def _result(self) -> GenerateResult:
        stream, echo = self.stream, self.echo_text
        reason = (stream and stream.finish_reason) or self.ending.reason
        return GenerateResult(
            stream=self.stream_id,
            text=(stream.transcript.text if stream else "") if echo else None,
            tokens=(stream.transcript.tokens if stream else []) if echo else None,
            finish_reason=reason,
            stop_match=stream.stop_match if stream else None,
            error=_error_object(self.ending.error or InternalError()) if reason == "error" else None,
            usage=self._usage(stream.transcript.published[1] if stream else 0),
            timing=self._timing(stream.task.first_token_at if stream else None),
            last_seq=stream.last_seq if stream else None,
            seed=self.seed,
            cache=self.explanation,
            warnings=self.warnings,
        )

    def _usage(self, completion_tokens: int) -> Usage:
        # The tokens that a stream generated before an interruption may have been cached as well.
        cached = min(self.ending.cached_tokens, self.prompt_tokens)
        disk = min(self.ending.cached_disk, cached)
        return Usage(
            prompt_tokens=self.prompt_tokens,
            cached_tokens=cached,
            cached_by_tier=CachedByTier(ram=cached - disk, disk=disk),
            completion_tokens=completion_tokens,
            uncached_because=self.ending.uncacheable or None,
        )

    def _timing(self, first: float | None) -> Timing:
        timing = self.ending.timing
        return Timing(
            queue_s=timing.queue_s,
            load_s=self.load_s or None,
            prefill_s=None if first is None else timing.prefill_s,
            first_token_s=None if first is None else first - self.arrived,
            decode_s=None if first is None else timing.decode_s,
        )


async def encoded_logprobs(params: GenerateParams, stream: TextStream | None) -> bytes | None:
    """JSON of the log-probabilities that the answer carries; None if it carries none."""
    if params.logprobs is None or not params.echo_text:
        return None
    if stream is None or stream.logprobs is None:
        return b"[]"
    tokens = stream.transcript.tokens
    entries = stream.logprobs.entries(tokens)
    return await off_loop(logprobs_json, entries, size=len(tokens) * (1 + params.logprobs))


def never_begun(arrived: float) -> Ending:
    """The ending of a request that met its deadline before the engine had heard of it."""
    return Ending(reason="deadline", started=False, timing=link.Timing(queue_s=time.monotonic() - arrived))


def _error_object(error: RpcError) -> ErrorObject:
    return ErrorObject(code=error.code, message=error.message, data=ErrorData(**error.data))
