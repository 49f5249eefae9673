"""``generate``: from validated parameters to a submitted sequence, and from its ending to the one answer."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import anyio

from mlx_sidecar_protocol.errors import (
    Cancelled,
    ContextTooLong,
    InternalError,
    InvalidParams,
    ModelNotLoaded,
    RpcError,
    UnsupportedParameter,
)
from mlx_sidecar_protocol.generate import ErrorData, ErrorObject, GenerateParams, GenerateResult, Timing, Usage

from ..link.messages import ModelCard, Sampling, Submit
from ..link.supervisor import Supervisor
from ..models.catalog import Catalog
from ..streams.registry import Streams
from ..streams.stream import Ending, Stream
from ..text.stops import StopMatcher
from ..text.tokenizer import TextModel
from .context import RequestContext
from .offload import off_loop

_COLDEST = 1e-30  # below it nothing but the likeliest token is ever drawn, and float32 ends
_LONGEST_INTERVAL_MS = 86_400_000  # longer than any answer takes; a thread cannot wait for ever so many seconds
_SEED_LIMIT = 10**14  # integers we originate stay exact in every host's numbers

# Known to the contract, not done by this version; refused by name rather than dropped.
NOT_YET = {
    "logprobs": "this version does not report log probabilities",
    "deadline_s": "this version has no deadlines; cancel the request instead",
    "window": "this version has no flow control by window; deltas merge when the host is slow",
    "priority": "this version serves requests in the order of their arrival; only normal is taken",
}


@dataclass(frozen=True)
class Prepared:
    """A request whose model is there and whose prompt is tokens."""

    card: ModelCard
    text: TextModel
    tokens: list[int]
    load_s: float


class Generator:
    """Serves ``generate`` requests; one per front."""

    def __init__(self, catalog: Catalog, streams: Streams, engine: Supervisor) -> None:
        self._catalog = catalog
        self._streams = streams
        self._engine = engine

    async def __call__(self, context: RequestContext, params: GenerateParams) -> Callable[[], GenerateResult]:
        """The result is made when it is written: only then is the number of the last delta known."""
        arrived = time.monotonic()
        _refuse_what_is_not_done_yet(params)
        with self._streams.claim(params.stream, context.cancel):
            prepared = await self._prepare(params)
            stream, ending = await self._run(context, params, prepared)
            if ending.error is not None and ending.error.kind == ModelNotLoaded.kind and not ending.started:
                # Evicted since we looked; once is bad luck, twice is an answer.
                self._catalog.evicted(params.model)
                prepared = await self._prepare_again(context, params)
                stream, ending = await self._run(context, params, prepared)
        _raise_what_never_started(stream, ending)
        return partial(_answer, params, prepared, stream, ending, arrived)

    async def _prepare(self, params: GenerateParams) -> Prepared:
        card, text, load_s = await self._catalog.ready(params.model)
        tokens = await prompt_tokens(text, params)
        if len(tokens) >= card.context_length:
            raise ContextTooLong(have=len(tokens), limit=max(0, card.context_length - 1))
        _check_vocabulary(params, tokens, card.vocabulary)
        return Prepared(card, text, tokens, load_s)

    async def _prepare_again(self, context: RequestContext, params: GenerateParams) -> Prepared:
        """By now a cancel goes to the engine, where there is nothing to end: it has to end the load instead."""
        with anyio.CancelScope() as scope:
            context.on_cancel(scope.cancel)
            return await self._prepare(params)
        raise Cancelled

    async def _run(self, context: RequestContext, params: GenerateParams, prepared: Prepared) -> tuple[Stream, Ending]:
        stops = await off_loop(StopMatcher, params.stop or [])
        submit = _submission(self._streams.next_number(), params, prepared)
        interval_s = min(params.min_interval_ms or 0, _LONGEST_INTERVAL_MS) / 1000
        stream = Stream(submit, params.stream, prepared.text.detokenizer(), stops, interval_s)
        self._streams.open(stream)
        if stream.id is not None:
            context.answer_after(stream)
        try:
            self._engine.send(submit)
            context.on_cancel(lambda: self._engine.cancel(submit.seq))
            return stream, await stream.ended
        finally:
            self._streams.close(stream)


async def prompt_tokens(text: TextModel, params: GenerateParams) -> list[int]:
    """The prompt as tokens, whichever of the three ways it was given. Raises InvalidParams if it has none."""
    if params.tokens is not None:
        return params.tokens
    if params.messages is not None:
        messages = [message.for_template() for message in params.messages]
        rendered = await off_loop(text.render, messages, params.tools, True, params.template_args or {})
        return await off_loop(text.encode, rendered, False)
    assert params.prompt is not None
    tokens = await off_loop(text.encode, params.prompt, True)
    if not tokens:
        raise InvalidParams.field("prompt", "it has no tokens: there is nothing to continue", "empty_prompt")
    return tokens


def _refuse_what_is_not_done_yet(params: GenerateParams) -> None:
    for name, because in NOT_YET.items():
        if getattr(params, name) not in (None, "normal"):
            raise UnsupportedParameter(name, because)


def _check_vocabulary(params: GenerateParams, prompt: list[int], size: int) -> None:
    """An id beyond the vocabulary would read foreign memory in the embedding, or do nothing: both are wrong.

    A tokenizer may know more tokens than its model, so a prompt of text is looked at like one of tokens.
    """
    source = next(name for name in ("tokens", "messages", "prompt") if getattr(params, name) is not None)
    given = {source: prompt, "stop_tokens": params.stop_tokens or (), "logit_bias": params.token_bias}
    for name, tokens in given.items():
        worst = max(tokens, default=0)
        if worst >= size:
            raise InvalidParams.field(name, f"token {worst} is outside the vocabulary of {size}", "unknown_token")


def _submission(seq: int, params: GenerateParams, prepared: Prepared) -> Submit:
    room = prepared.card.context_length - len(prepared.tokens)
    stops = set(params.stop_tokens or ()) | (set() if params.ignore_eos else prepared.text.eos_tokens)
    seed = random.randrange(_SEED_LIMIT) if params.seed is None else params.seed
    return Submit(
        seq=seq,
        model=params.model,
        tokens=prepared.tokens,
        sampling=Sampling(
            temperature=params.temperature if params.temperature >= _COLDEST else 0.0,
            top_p=params.top_p,
            top_k=min(params.top_k, prepared.card.vocabulary),
            min_p=params.min_p,
            repetition_penalty=params.repetition_penalty,
            presence_penalty=params.presence_penalty,
            frequency_penalty=params.frequency_penalty,
            logit_bias=params.token_bias,
            seed=seed,
        ),
        max_tokens=room if params.max_tokens is None else min(params.max_tokens, room),
        stop_tokens=sorted(stops),
        priority=params.priority,
    )


def _raise_what_never_started(stream: Stream, ending: Ending) -> None:
    """A request that did no work is answered with an error; one that did, with a result that holds the work."""
    if ending.started or stream.first_token_at is not None:
        return
    if ending.error is not None:
        raise ending.error
    if ending.reason == "cancelled":
        raise Cancelled


def _answer(
    params: GenerateParams, prepared: Prepared, stream: Stream, ending: Ending, arrived: float
) -> GenerateResult:
    reason = stream.finish_reason or ending.reason
    first = stream.first_token_at
    return GenerateResult(
        stream=params.stream,
        text=stream.transcript.text if params.echo_text else None,
        tokens=stream.transcript.tokens if params.echo_text else None,
        finish_reason=reason,
        stop_match=stream.stop_match,
        error=_error_object(ending.error or InternalError()) if reason == "error" else None,
        usage=Usage(
            prompt_tokens=len(prepared.tokens),
            cached_tokens=ending.cached_tokens,
            completion_tokens=stream.transcript.published[1],
        ),
        timing=Timing(
            queue_s=ending.timing.queue_s,
            load_s=prepared.load_s or None,
            prefill_s=None if first is None else ending.timing.prefill_s,
            first_token_s=None if first is None else first - arrived,
            decode_s=None if first is None else ending.timing.decode_s,
        ),
        last_seq=stream.last_seq,
        seed=stream.submit.sampling.seed,
    )


def _error_object(error: RpcError) -> ErrorObject:
    return ErrorObject(code=error.code, message=error.message, data=ErrorData(**error.data))
