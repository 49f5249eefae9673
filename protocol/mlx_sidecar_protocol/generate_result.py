"""The result of ``generate``: text and tokens, the reason for its end, usage, timing and warnings."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict, Field

from .generate import FinishReason, TurnId
from .model import Count, LogProbability, Seconds, Sent, StreamId, TokenId
from .tools import IncompleteToolCall, ToolCall


class TokenLogprob(Sent):
    """A token, its text alone, and its natural log probability; null is minus infinity."""

    token: TokenId
    text: str
    logprob: LogProbability


class Logprob(TokenLogprob):
    """A chosen token, and the ``logprobs`` likeliest tokens at its place, likeliest first."""

    top: list[TokenLogprob]


class CachedByTier(Sent):
    """Counts of cached tokens that were in memory, and that were read from disk for this request."""

    ram: Count
    disk: Count


class SpeculationUsage(Sent):
    """The account of speculation: ``proposed`` tokens were verified, and ``accepted`` ones were the model's own.

    ``passes`` of the model gave the answer's tokens, each at least one.
    """

    proposed: Count
    accepted: Count
    passes: Count


class Usage(Sent):
    """Counts of tokens. ``cached_tokens`` is the part of ``prompt_tokens`` that needed no prefill, the sum of tiers."""

    prompt_tokens: Count
    cached_tokens: Count
    cached_by_tier: CachedByTier
    completion_tokens: Count
    reasoning_tokens: Count | None = Field(
        default=None,
        description="those of completion_tokens inside reasoning, without its markers; absent if none is looked for",
    )
    uncached_because: str | None = Field(
        default=None, description="the reason why prompts of this model cannot be cached; absent if they can"
    )
    speculation: SpeculationUsage | None = Field(
        default=None, description="absent if none was asked for and nothing was proposed"
    )


class PromptPlace(Sent):
    """A place in the host's request by its ``path``, e.g. ``["messages", 2, "content"]``.

    ``template`` is text that the model's template adds, or the end of the prompt; then ``path`` may be empty.
    """

    field: Literal["prompt", "messages", "tools", "template_args", "tokens", "template"]
    path: list[str | int]
    message: Count | None = Field(default=None, description="number of the message, in a chat")
    role: str | None = Field(default=None, description="role of that message")


class CacheExplanation(Sent):
    """The place where the prompt first left the nearest cached one, in memory or on disk.

    ``because``: ``uncacheable`` (prompts of this model cannot be cached), ``nothing_known`` (not even the first token
    is cached), ``all_known``, ``new_text`` (the cached prompt ended there), or the two prompts differ: ``date`` (in a
    date or a time, by its looks), ``key_order`` (the same JSON keys in another order), ``changed_text``.
    """

    prompt_tokens: Count
    known_tokens: Count = Field(
        description="tokens in common with the nearest cached prompt, and so the number of the first that differs"
    )
    because: Literal["uncacheable", "nothing_known", "all_known", "new_text", "date", "key_order", "changed_text"]
    where: PromptPlace | None = Field(default=None, description="absent if the whole prompt was known")
    text_before: str | None = None
    text_here: str | None = Field(default=None, description="this prompt's text from there on")
    text_known: str | None = Field(
        default=None, description="the cached prompt's text from there on; absent if it ended there"
    )
    summary: str = Field(description="the explanation as a sentence")


class Timing(Sent):
    """Durations in seconds. One that did not begin is absent: a request cancelled in the queue has only ``queue_s``."""

    queue_s: Seconds = Field(description="until its prefill began, or until its end if it had none")
    load_s: Seconds | None = Field(default=None, description="loading the model, if this request had to")
    prefill_s: Seconds | None = Field(default=None, description="from the begin of its prefill to its first token")
    first_token_s: Seconds | None = Field(default=None, description="from the request's arrival to its first token")
    decode_s: Seconds | None = Field(default=None, description="from its first token to its end, pauses included")


class ErrorData(Sent):
    """The data of an error; each kind adds its own members."""

    model_config = ConfigDict(extra="allow")

    kind: str
    retryable: bool


class ErrorObject(Sent):
    """An error inside a result, because the generation broke off."""

    code: int
    message: str
    data: ErrorData


class ResultWarning(Sent):
    """A warning about a request that was carried out all the same.

    Of a chat: ``content_left_out``, ``name_left_out``, ``tool_calls_left_out``, ``tools_left_out`` (the model's chat
    template does not write them), ``role_unknown`` (it writes the message like one of any unknown role),
    ``tool_calls_not_parsed`` (it does not tell how calls are written: they stay in the text). Of a session:
    ``turns_rendered`` (the prompt is the template's rendering of the whole chat, because its text behind the last
    answer could not be told apart).
    """

    kind: str
    message: str


class FormResult(Sent):
    """Whether the answer has the whole form that was asked for, and what keeping to it took.

    Of the answer's tokens, ``forced_tokens`` were the only ones possible. ``masked_steps`` were chosen among those that
    the form allows: where it did not allow the first choice, and with ``top_p``, ``top_k`` or ``min_p`` in each step.
    """

    complete: bool
    forced_tokens: Count
    masked_steps: Count


class GenerateResult(Sent):
    """The result that ends a generation, written after the last delta of its stream."""

    stream: StreamId | None = None
    text: str | None = Field(default=None, description="absent if echo_text is false")
    reasoning: str | None = Field(default=None, description="absent if there is none, or if echo_text is false")
    tool_calls: list[ToolCall] | None = Field(default=None, description="the whole calls; absent if there is none")
    incomplete_tool_calls: list[IncompleteToolCall] | None = Field(
        default=None, description="calls that are not whole; absent if there is none"
    )
    tool_call_error: str | None = Field(
        default=None, description="why something that began like a call is no call, or not a whole one"
    )
    tokens: list[TokenId] | None = Field(default=None, description="absent if echo_text is false")
    logprobs: list[Logprob] | None = Field(
        default=None, description="one for each of tokens, if asked for; absent if echo_text is false"
    )
    finish_reason: FinishReason
    stop_match: str | None = Field(default=None, description="the stop string that ended the text")
    error: ErrorObject | None = Field(default=None, description="with finish_reason error")
    response_format: FormResult | None = Field(default=None, description="with a response_format other than text")
    usage: Usage
    timing: Timing
    last_seq: Count | None = Field(default=None, description="number of the last delta; absent if there was none")
    seed: Count
    cache: CacheExplanation | None = Field(default=None, description="with explain_cache")
    warnings: list[ResultWarning] | None = Field(default=None, description="absent if there are none")
    turn: TurnId | None = Field(
        default=None,
        description="with session: the turn that was added; absent if no token came, or it was closed or rolled back",
    )
    rendered_differs: bool | None = Field(
        default=None, description="with session: whether the model's template would have given other prompt tokens"
    )
    dropped_messages: Count | None = Field(
        default=None,
        description="of the chat, so many messages behind the system messages, the oldest, were left out; absent if 0",
    )
