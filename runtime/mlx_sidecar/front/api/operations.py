"""Each operation of version 1 takes its validated parameters and returns its result or raises an RpcError."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import msgspec

from mlx_sidecar_protocol.embed import EmbeddingCard
from mlx_sidecar_protocol.notifications import ProgressParams
from mlx_sidecar_protocol.operations import (
    CheckDraftParams,
    CheckDraftResult,
    DetokenizeParams,
    DetokenizeResult,
    DiscoverResult,
    EmptyResult,
    LoadParams,
    LoadResult,
    ModelCard,
    ModelsResult,
    NoParams,
    RenderParams,
    StreamAckParams,
    StreamCancelParams,
    StreamSubscribeParams,
    StreamSubscribeResult,
    TokenizeParams,
    UnloadParams,
    UnloadResult,
)

from ... import __version__
from ...link import control_messages
from ..streams.recovery import Recovery
from ..streams.registry import Streams
from ..supervision.supervisor import Supervisor
from .drafts import difference_of
from .generate_result import reason_of
from .model_catalog import ModelCatalog
from .model_files import OnProgress
from .model_text import Chat
from .offload import object_json, off_loop
from .parsing import reasons
from .sink import Sink


class Operations:
    """The operations on models, text and named streams; one per connection. ``notify`` writes a notification."""

    def __init__(
        self,
        *,
        catalog: ModelCatalog,
        engine: Supervisor,
        recovery: Recovery,
        streams: Streams,
        notify: Callable[[str, ProgressParams], None],
    ) -> None:
        self._catalog = catalog
        self._engine = engine
        self._recovery = recovery
        self._streams = streams
        self._notify = notify

    async def load(self, sink: Sink, params: LoadParams) -> LoadResult:
        with self._progress(params) as on_progress:
            card, _, load_s = await self._catalog.load(params, on_progress)
        return LoadResult(**self._card(card).model_dump(), load_s=load_s)

    async def unload(self, sink: Sink, params: UnloadParams) -> UnloadResult:
        self._recovery.unloading(params.model, force=params.force)
        return UnloadResult(freed_bytes=await self._catalog.unload(params.model, force=params.force))

    async def models(self, sink: Sink, params: NoParams) -> ModelsResult:
        answer = await self._engine.models()
        return ModelsResult(models=[self._card(card) for card in answer.models])

    async def detokenize(self, sink: Sink, params: DetokenizeParams) -> DetokenizeResult:
        text = await self._catalog.text(params.model)
        return DetokenizeResult(text=await text.decode(params.tokens))

    # TokenizeResult and RenderResult, as JSON, because a text of a megabyte is some hundred thousand tokens.

    async def tokenize(self, sink: Sink, params: TokenizeParams) -> bytes:
        text = await self._catalog.text(params.model)
        how = params.add_special, params.escape_special
        tokens, pieces = await text.tokenize(params.text, *how, pieces=params.pieces)
        return await off_loop(object_json, {"tokens": tokens, "count": len(tokens), "pieces": pieces})

    async def render(self, sink: Sink, params: RenderParams) -> bytes:
        text = await self._catalog.text(params.model)
        messages = [message.for_template() for message in params.messages]
        options = params.add_generation_prompt, params.template_args, params.escape_special
        chat = Chat(messages, params.tools, *options)
        prompt = await text.render(chat)
        warnings = [msgspec.structs.asdict(each) for each in prompt.warnings] or None
        return await off_loop(object_json, {"text": prompt.text, "tokens": prompt.tokens, "warnings": warnings})

    async def check_draft(self, sink: Sink, params: CheckDraftParams) -> CheckDraftResult:
        because = await difference_of(self._catalog, params.model, params.draft)
        return CheckDraftResult(compatible=because is None, because=because)

    def stream_cancel(self, sink: Sink, params: StreamCancelParams) -> EmptyResult:
        self._streams.cancel(params.stream)
        return EmptyResult()

    def stream_subscribe(self, sink: Sink, params: StreamSubscribeParams) -> StreamSubscribeResult:
        stream = self._streams.find(params.stream)
        last_seq = self._streams.rewind(stream, params.after_seq)
        return StreamSubscribeResult(stream=params.stream, last_seq=last_seq, finish_reason=reason_of(stream))

    def stream_ack(self, sink: Sink, params: StreamAckParams) -> EmptyResult:
        self._streams.acknowledge(self._streams.find(params.stream), params.seq)
        return EmptyResult()

    def discover(self, sink: Sink, params: NoParams) -> DiscoverResult:
        return _discovered()

    def _card(self, card: control_messages.ModelCard) -> ModelCard:
        """The card as hosts see it; a figure that is not known yet is absent."""
        fields = [name for name in card.__struct_fields__ if name not in ("capabilities", "embedding")]
        known: dict[str, Any] = {name: value for name in fields if (value := getattr(card, name)) != ""}
        if card.state == "loading":
            known = {name: value for name, value in known.items() if value != 0 or name in ("pinned", "streams")}
        if card.state == "ready":
            known |= {"generates": not card.lacks("generate"), "reranks": not card.lacks("rerank")}
        if card.embedding is not None and not card.lacks("embed"):
            own = card.embedding
            known["embedding"] = EmbeddingCard(
                dimensions=own.dimensions,
                max_tokens=own.max_tokens,
                pooling=own.pooling,
                normalize=own.normalize,
                prompts=list(own.prompts) or None,
            )
        if (formats := self._catalog.formats(card.model)) is not None:
            known |= {"tool_format": formats.tools and formats.tools.name, "reasoning": reasons(formats)}
        return ModelCard(**known)

    @contextmanager
    def _progress(self, params: LoadParams) -> Iterator[OnProgress | None]:
        """Tells the host of progress while the block runs, not of a download that outlives its cancelled request."""
        token, running = params.progress, True
        if token is None:
            yield None
            return

        def report(stage: str, done: int, total: int) -> None:
            if running:
                told = ProgressParams(
                    token=token, model=params.model, stage=stage, done_bytes=done, total_bytes=total or None
                )
                self._notify("progress", told)

        try:
            yield report
        finally:
            running = False


@cache
def _discovered() -> DiscoverResult:
    from mlx_sidecar_protocol import openrpc  # the schema generator is 20 ms of start-up that few hosts ask for

    return DiscoverResult.model_validate(openrpc.document(__version__))
