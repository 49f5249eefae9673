"""The result of ``generate``: text and tokens, the reason for its end, usage, timing and warnings."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict, Field

from .generate import FinishReason
from .model import Count, Measure, Seconds, Sent, StreamId, TokenId


class TokenLogprob(Sent):
    """A token, what it says by itself, and its natural log probability; null is minus infinity."""

    token: TokenId
    text: str
    logprob: Measure


class Logprob(TokenLogprob):
    """A token that was chosen, and the ``logprobs`` likeliest tokens at its place, likeliest first."""

    top: list[TokenLogprob]


class CachedByTier(Sent):
    """Tokens that were in memory, and those that were read from disk for this request."""

    ram: Count
    disk: Count


class Usage(Sent):
    """Tokens. ``cached_tokens`` is the part of ``prompt_tokens`` that needed no prefill, the sum of its tiers."""

    prompt_tokens: Count
    cached_tokens: Count
    cached_by_tier: CachedByTier
    completion_tokens: Count
    uncached_because: str | None = Field(
        default=None, description="why nothing of this model can be cached; absent where it can"
    )


class PromptPlace(Sent):
    """A place in what the host gave: ``path`` leads to it, e.g. ``["messages", 2, "content"]``.

    ``template`` is text that the model's template adds, or the end of what was given; then ``path`` may be empty.
    """

    field: Literal["prompt", "messages", "tools", "template_args", "tokens", "template"]
    path: list[str | int]
    message: Count | None = Field(default=None, description="number of the message, with messages")
    role: str | None = Field(default=None, description="of that message")


class CacheExplanation(Sent):
    """Where the prompt first left the nearest one that is known, in memory or on disk.

    ``because``: ``uncacheable`` (nothing of this model can be cached), ``nothing_known`` (not even the first token),
    ``all_known``, ``new_text`` (the known one ended there), or the two went on differently: ``date`` (they differ in
    digits of what looks like a date or a time), ``key_order`` (the same JSON keys in another order), ``changed_text``.
    """

    prompt_tokens: Count
    known_tokens: Count = Field(
        description="in common with the nearest known prompt: the number of the first that differs"
    )
    because: Literal["uncacheable", "nothing_known", "all_known", "new_text", "date", "key_order", "changed_text"]
    where: PromptPlace | None = Field(default=None, description="absent if the whole prompt was known")
    text_before: str | None = None
    text_here: str | None = Field(default=None, description="how this prompt goes on there")
    text_known: str | None = Field(default=None, description="how the known one went on; absent if it ended there")
    summary: str = Field(description="the same as a sentence")


class Timing(Sent):
    """Seconds. What did not happen is absent: a request cancelled in the queue has only ``queue_s``."""

    queue_s: Seconds = Field(description="until its prefill began; if it ended before the engine had it, until then")
    load_s: Seconds | None = Field(default=None, description="loading the model, if this request had to")
    prefill_s: Seconds | None = Field(default=None, description="from there until its first token")
    first_token_s: Seconds | None = Field(default=None, description="from the request's arrival to its first token")
    decode_s: Seconds | None = Field(default=None, description="from its first token to its end, pauses included")


class ErrorData(Sent):
    """What every error carries; each kind adds its own members."""

    model_config = ConfigDict(extra="allow")

    kind: str
    retryable: bool


class ErrorObject(Sent):
    """An error inside a result: the generation broke off."""

    code: int
    message: str
    data: ErrorData


class ResultWarning(Sent):
    """Something that was not refused and yet has to be told.

    Of a chat: ``content_left_out``, ``name_left_out``, ``tool_calls_left_out``, ``tools_left_out`` (the model's chat
    template does not write them), ``role_unknown`` (it writes the message as one of any other role).
    """

    kind: str
    message: str


class GenerateResult(Sent):
    """The end of a generation. Written after the last delta; nothing of the stream follows."""

    stream: StreamId | None = None
    text: str | None = Field(default=None, description="absent if echo_text is false")
    tokens: list[TokenId] | None = Field(default=None, description="absent if echo_text is false")
    logprobs: list[Logprob] | None = Field(
        default=None, description="one for each of tokens, if asked for; absent if echo_text is false"
    )
    finish_reason: FinishReason
    stop_match: str | None = Field(default=None, description="the stop string that ended it")
    error: ErrorObject | None = Field(default=None, description="with finish_reason error")
    usage: Usage
    timing: Timing
    last_seq: Count | None = Field(default=None, description="number of the last delta; absent if there was none")
    seed: Count
    cache: CacheExplanation | None = Field(default=None, description="with explain_cache")
    warnings: list[ResultWarning] | None = Field(default=None, description="absent if there is nothing to tell")
