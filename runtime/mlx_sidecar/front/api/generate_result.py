"""The result of a generation is made here, from its stream and its ending."""

from __future__ import annotations

import time
from dataclasses import dataclass

from mlx_sidecar_protocol.envelope import Encodable
from mlx_sidecar_protocol.errors import InternalError, RpcError
from mlx_sidecar_protocol.generate import FinishReason, GenerateParams
from mlx_sidecar_protocol.generate_result import (
    CachedByTier,
    CacheExplanation,
    ErrorData,
    ErrorObject,
    FormResult,
    GenerateResult,
    ResultWarning,
    SpeculationUsage,
    Timing,
    Usage,
)
from mlx_sidecar_protocol.model import StreamId
from mlx_sidecar_protocol.tools import IncompleteToolCall, ToolCall

from ...link import messages as link
from ..channels import REASONING
from ..logprobs_json import WithLogprobs, logprobs_json
from ..output.parser import Outcome, Unfinished
from ..streams.effort import EffortSum
from ..streams.task import Ending
from ..streams.text_stream import TextStream
from .offload import off_loop

_OBJECTS_BYTES = 8192  # of a stream that has ended
_CHARACTER_BYTES = 2
_TOKEN_BYTES = 8


@dataclass(frozen=True)
class Answer:
    """The account of a generation; called, it makes the result. ``stream`` is None if the engine never had it.

    ``arrived`` is on the monotonic clock. ``has_form`` and ``has_proposals``: they were asked for. The call comes with
    the writing: the last delta's number is known then.
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
    has_form: bool = False
    has_proposals: bool = False
    turn: str | None = None
    rendered_differs: bool | None = None
    dropped_messages: int = 0

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
        reason = told_reason(stream, self.ending)
        found = Outcome() if stream is None else stream.outcome
        calls = whole_calls(stream)
        cut = _unfinished(stream)
        return GenerateResult(
            stream=self.stream_id,
            text=(stream.transcript.text if stream else "") if echo else None,
            tokens=(stream.transcript.tokens if stream else []) if echo else None,
            reasoning=(stream.transcript.text_of(REASONING) if stream and echo else "") or None,
            tool_calls=calls or None,
            incomplete_tool_calls=cut or None,
            tool_call_error=found.error,
            finish_reason=reason,
            stop_match=stream.stop_match if stream else None,
            error=_error_object(self.ending.error or InternalError()) if reason == "error" else None,
            response_format=self._form() if self.has_form else None,
            usage=self._usage(stream.transcript.published[1] if stream else 0),
            timing=self._timing(stream.task.first_token_at if stream else None),
            last_seq=stream.last_seq if stream else None,
            seed=self.seed,
            cache=self.explanation,
            warnings=self.warnings,
            turn=self.turn,
            rendered_differs=self.rendered_differs,
            dropped_messages=self.dropped_messages or None,
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
            reasoning_tokens=None if self.stream is None else self.stream.outcome.reasoning_tokens,
            uncached_because=self.ending.uncacheable or None,
            speculation=self._speculation(),
        )

    @property
    def _effort(self) -> EffortSum:
        return EffortSum() if self.stream is None else self.stream.effort

    def _form(self) -> FormResult:
        """A stop string cuts the text, so that the form is not whole even where the engine's tokens have it.

        A loop takes nothing away, but the engine may have gone on behind it, or not.
        """
        cut = self.stream is None or self.stream.is_cut
        effort = self._effort
        return FormResult(
            complete=self.ending.complete and not cut, forced_tokens=effort.forced, masked_steps=effort.masked
        )

    def _speculation(self) -> SpeculationUsage | None:
        effort = self._effort
        if not (self.has_proposals or effort.proposed):
            return None
        return SpeculationUsage(proposed=effort.proposed, accepted=effort.accepted, passes=effort.passes)

    def _timing(self, first: float | None) -> Timing:
        timing = self.ending.timing
        return Timing(
            queue_s=timing.queue_s,
            load_s=self.load_s or None,
            prefill_s=None if first is None else timing.prefill_s,
            first_token_s=None if first is None else first - self.arrived,
            decode_s=None if first is None else timing.decode_s,
        )


def told_reason(stream: TextStream | None, ending: Ending) -> FinishReason:
    """The reason that the result tells."""
    return (stream and reason_of(stream)) or ending.reason


def reason_of(stream: TextStream) -> FinishReason | None:
    """How ``stream`` has ended, as hosts are told; None while it runs."""
    reason = stream.finish_reason
    if reason == "stop" and stream.stop_match is None and stream.outcome.calls and not _unfinished(stream):
        return "tool_calls"
    return reason


def whole_calls(stream: TextStream | None) -> list[ToolCall]:
    """The tool calls of an answer that are whole."""
    if stream is None:
        return []
    heads, text_of = stream.transcript.heads, stream.transcript.text_of
    return [ToolCall(id=heads[at].id, name=heads[at].name, arguments=text_of(at)) for at in stream.outcome.calls]


def _unfinished(stream: TextStream | None) -> list[IncompleteToolCall]:
    """The calls that are not whole, those among them of which deltas told before their text broke off."""
    if stream is None:
        return []
    transcript, found = stream.transcript, stream.outcome
    known = {*found.calls, *(each.index for each in found.unfinished)}
    broken = [Unfinished(transcript.text_of(at), at) for at in range(len(transcript.heads)) if at not in known]
    return [_incomplete(stream, each) for each in (*found.unfinished, *broken)]


def _incomplete(stream: TextStream, call: Unfinished) -> IncompleteToolCall:
    if call.index is None:
        return IncompleteToolCall(text=call.text)
    head = stream.transcript.heads[call.index]
    return IncompleteToolCall(text=call.text, index=call.index, id=head.id, name=head.name)


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
