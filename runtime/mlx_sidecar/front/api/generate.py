"""The operation ``generate`` makes a sequence of validated parameters, and an answer of its ending."""

from __future__ import annotations

import random
import time
from collections.abc import Coroutine
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from typing import Any

from mlx_sidecar_protocol.errors import Cancelled, ContextTooLong, UnsupportedParameter
from mlx_sidecar_protocol.generate import GenerateParams
from mlx_sidecar_protocol.generate_result import ResultWarning

from ...link.control_messages import ModelCard
from ...link.messages import Constraint, Generate, Sampling, Speculation, Submit
from ..output.late_text import LateText
from ..output.repeat_guard import RepeatGuard
from ..output.special_stops import SpecialStops
from ..output.stops import StopMatcher
from ..output.until_stop import Detokenizer
from ..sessions.store import SessionStore
from ..streams.logprobs import Logprobs
from ..streams.recovery import Recovery
from ..streams.registry import Streams
from ..streams.task import Ending, EngineTask
from ..streams.text_stream import TextStream
from .adapters import AdapterUses, adapter_of
from .drafts import speculation_of
from .forms import Forms
from .generate_result import Answer, encoded_logprobs, never_begun, told_reason
from .model_catalog import ModelCatalog
from .model_text import ModelText
from .offload import off_loop
from .parsing import Parsing, check_format, parsing_of
from .prompt import AskedPrompt, check_vocabulary, explained, result_warnings
from .reasoning import with_budget
from .request_task import RequestTask
from .session_prompt import SessionPrompt
from .sink import Sink

_LONGEST_INTERVAL_MS = 86_400_000  # longer than any answer takes; a thread cannot wait for ever so many seconds
_SEED_LIMIT = 10**14  # integers we originate stay exact in every host's numbers


@dataclass(frozen=True)
class Prepared:
    """A request with its model loaded and its prompt as tokens."""

    card: ModelCard
    text: ModelText
    tokens: list[int]
    stop_tokens: list[int]
    stops: StopMatcher
    special_stops: SpecialStops | None
    constraint: Constraint | None = None
    speculation: Speculation | None = None
    parsing: Parsing | None = None
    adapter: str | None = None


@dataclass
class _Job:
    """One request and its progress."""

    sink: Sink
    asked: AskedPrompt
    arrived: float = field(default_factory=time.monotonic)
    prompt_tokens: int = 0
    load_s: float = 0.0
    text: ModelText | None = None
    warnings: list[ResultWarning] | None = None
    stream: TextStream | None = None

    @property
    def params(self) -> GenerateParams:
        return self.asked.params

    def __post_init__(self) -> None:
        asked = self.params.seed
        self.seed = random.randrange(_SEED_LIMIT) if asked is None else asked
        self.deadline = self.arrived + (self.params.deadline_s or float("inf"))


class Generator:
    """Serves the ``generate`` requests of one connection."""

    def __init__(
        self,
        catalog: ModelCatalog,
        streams: Streams,
        recovery: Recovery,
        forms: Forms,
        sessions: SessionStore,
        uses: AdapterUses,
    ) -> None:
        self._catalog = catalog
        self._streams = streams
        self._recovery = recovery
        self._forms = forms
        self._sessions = sessions
        self._uses = uses

    def __call__(self, sink: Sink, params: GenerateParams) -> Coroutine[Any, Any, Answer]:
        asked = AskedPrompt(params) if params.session is None else SessionPrompt(self._sessions, params)
        with ExitStack() as names:
            names.enter_context(self._streams.claim(params.stream, sink.cancel))  # a cancel right behind must find it
            names.enter_context(self._uses.of(asked.params))  # and so must an unload
            name = names.pop_all()
        sink.on_cancel(_nothing)  # it runs then all the same, and gives the name back
        return self._generate(_Job(sink, asked), name)

    async def _generate(self, job: _Job, name: ExitStack) -> Answer:
        params = job.params
        with name, job.asked:
            task = RequestTask(
                self._catalog, self._recovery, job.sink, params.model, job.deadline, lambda: self._hearing(job)
            )
            ending = await task.run(lambda: self._prepare(job))
            if ending is None:
                job.stream, ending = None, never_begun(job.arrived)
            _raise_what_never_started(job, ending)
            # While the name is taken: deltas of another stream must not come before this one's answer.
            logprobs = await encoded_logprobs(params, job.stream)
            explanation = await explained(job.asked, job.text, job.stream, ending) if params.explain_cache else None
            if job.stream is not None and (job.stream.task.started or ending.reason == "stop"):
                job.asked.answered(job.stream, told_reason(job.stream, ending))
        return Answer(
            stream_id=params.stream,
            echo_text=params.echo_text,
            seed=job.seed,
            arrived=job.arrived,
            prompt_tokens=job.prompt_tokens,
            load_s=job.load_s,
            stream=job.stream,
            ending=ending,
            logprobs=logprobs,
            explanation=explanation,
            warnings=job.warnings,
            has_form=params.form is not None,
            has_proposals=params.proposals is not None,
            turn=job.asked.turn,
            rendered_differs=job.asked.rendered_differs,
            dropped_messages=job.asked.dropped,
        )

    def _hearing(self, job: _Job) -> AbstractContextManager[None]:
        """The block in which the stream of ``job`` is open; its deltas go out before the answer."""
        assert job.stream is not None
        if job.stream.deltas is not None:
            job.sink.answer_after(job.stream.deltas)
        return self._streams.hearing(job.stream)

    async def _prepare(self, job: _Job) -> EngineTask:
        """The task to run; from here on the prompt is in its journal only."""
        params, job.stream = job.params, None
        check_format(params.tool_format)  # refused before anything is loaded for it
        card, text, load_s = await self._catalog.ready(params.model)
        if because := card.lacks("generate"):
            raise UnsupportedParameter("model", because)
        # A load that another request began has taken longer than this one has waited.
        job.load_s = min(load_s, time.monotonic() - job.arrived)
        adapter = adapter_of(params, card, self._catalog)
        prompt = await job.asked.prompt(text, card)
        tokens = prompt.tokens
        check_vocabulary("stop_tokens", params.stop_tokens or (), card.vocabulary)
        check_vocabulary("logit_bias", params.token_bias, card.vocabulary)
        parsing, warnings = await parsing_of(params, text, tokens)
        job.text, job.warnings = text, [*(result_warnings(prompt.warnings) or []), *warnings] or None
        job.prompt_tokens = len(tokens)
        if len(tokens) >= card.context_length:
            raise ContextTooLong(have=len(tokens), limit=max(0, card.context_length - 1))
        speculation = await speculation_of(params, card, self._catalog)
        constrained = await self._forms.constraint(params, card, text, tokens)
        constraint, vocabulary = await with_budget(constrained, params, text, parsing) or (None, None)
        stop_tokens = set(params.stop_tokens or ())
        if not params.ignore_eos:
            stop_tokens |= text.eos_tokens | (set() if parsing is None else parsing.ends(text))
        how = params.skip_special, _shown(parsing)
        stops, special = await off_loop(_matchers, text, params.stop or [], sorted(stop_tokens), *how)
        asked = constraint, speculation, parsing, adapter
        prepared = Prepared(card, text, tokens, sorted(stop_tokens), stops, special, *asked)
        task = EngineTask(_submission(self._recovery.tasks.next_number(), job, prepared), vocabulary)
        job.stream = _stream(task, params, prepared)
        return task


def _matchers(
    text: ModelText, stops: list[str], stop_tokens: list[int], skip_special: bool, shown: frozenset[str]
) -> tuple[StopMatcher, SpecialStops | None]:
    return StopMatcher(stops), text.special_stops(stops, stop_tokens, skip_special, shown)


def _shown(parsing: Parsing | None) -> frozenset[str]:
    """Texts of special tokens that stand in the text for the parser."""
    return frozenset() if parsing is None else parsing.shown


def _detokenizer(params: GenerateParams, prepared: Prepared) -> Detokenizer | LateText:
    """An answer is a text of its own; a continuation keeps the space that it begins with, and so does a form."""
    has_form = prepared.constraint is not None and bool(prepared.constraint.grammar)
    continued = () if params.source == "messages" and not has_form else prepared.tokens
    return prepared.text.detokenizer(params.skip_special, continued, _shown(prepared.parsing))


def _stream(task: EngineTask, params: GenerateParams, prepared: Prepared) -> TextStream:
    alternatives = _alternatives(params, prepared.card.vocabulary)
    return TextStream(
        task,
        params.stream,
        _detokenizer(params, prepared),
        prepared.stops,
        min_interval_s=min(params.min_interval_ms or 0, _LONGEST_INTERVAL_MS) / 1000,
        window=params.window,
        logprobs=None if alternatives is None else Logprobs(alternatives, prepared.text.token_texts),
        special_stops=prepared.special_stops,
        parser=None if prepared.parsing is None else prepared.parsing.parser(),
        repeat_guard=None if params.repeat_guard is None else RepeatGuard(params.repeat_guard),
    )


def _submission(seq: int, job: _Job, prepared: Prepared) -> Submit:
    params, card = job.params, prepared.card
    room = card.context_length - len(prepared.tokens)
    return Submit(
        seq=seq,
        model=params.model,
        tokens=prepared.tokens,
        goal=Generate(
            _sampling(job, card.vocabulary),
            stop_tokens=prepared.stop_tokens,
            max_tokens=room if params.max_tokens is None else min(params.max_tokens, room),
            explain=params.explain_cache,
            constraint=prepared.constraint,
            speculation=prepared.speculation,
            adapter=prepared.adapter,
        ),
        priority=params.priority,
        deadline_s=None if params.deadline_s is None else job.deadline - time.monotonic(),
    )


def _sampling(job: _Job, vocabulary: int) -> Sampling:
    params = job.params
    return Sampling(
        temperature=params.temperature,
        top_p=params.top_p,
        top_k=min(params.top_k, vocabulary),
        min_p=params.min_p,
        repetition_penalty=params.repetition_penalty,
        presence_penalty=params.presence_penalty,
        frequency_penalty=params.frequency_penalty,
        logit_bias=params.token_bias,
        seed=job.seed,
        logprobs=_alternatives(params, vocabulary),
    )


def _alternatives(params: GenerateParams, vocabulary: int) -> int | None:
    return None if params.logprobs is None else min(params.logprobs, vocabulary)


def _raise_what_never_started(job: _Job, ending: Ending) -> None:
    """A request that did no work is answered with an error; one that did, with a result that holds the work."""
    if ending.started or (job.stream is not None and job.stream.task.started):
        return
    if ending.error is not None:
        raise ending.error
    if ending.reason == "cancelled":
        raise Cancelled


def _nothing() -> None:
    pass
