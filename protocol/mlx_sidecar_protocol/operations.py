"""Parameters and results of the methods for models, text and streams, and, from ``connection``, for the lifecycle."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from .connection import (
    CacheTiers as CacheTiers,
)
from .connection import (
    CancelRequestParams as CancelRequestParams,
)
from .connection import (
    ClientInfo as ClientInfo,
)
from .connection import (
    EmptyResult as EmptyResult,
)
from .connection import (
    InitializeParams as InitializeParams,
)
from .connection import (
    InitializeResult as InitializeResult,
)
from .connection import (
    NoParams as NoParams,
)
from .connection import (
    ServerCapabilities as ServerCapabilities,
)
from .connection import (
    ServerInfo as ServerInfo,
)
from .connection import (
    ServerLimits as ServerLimits,
)
from .connection import (
    ShutdownParams as ShutdownParams,
)
from .embed import EmbeddingCard
from .generate import FinishReason, Message, TokenIds
from .generate_result import ResultWarning
from .model import (
    Count,
    FirstFault,
    ModelName,
    Name,
    NullIs,
    ProgressToken,
    Received,
    Seconds,
    Sent,
    StreamId,
    TokenId,
)

Dtype = Literal["float32", "float16", "bfloat16"]


# Models.


class ModelCard(Sent):
    """A model that is resident or loading. Members not known yet are absent."""

    model: str
    state: Literal["loading", "ready"]
    path: str
    pinned: bool
    streams: Count = Field(description="number of running generations")
    architecture: str | None = None
    parameters: Count | None = None
    dtype: str | None = None
    quantization: str | None = None
    context_length: Count | None = None
    vocabulary: Count | None = None
    memory_bytes: Count | None = None
    last_used_s: Seconds | None = Field(default=None, description="seconds since its last request")
    policy: str | None = Field(default=None, description="library and number format of its arithmetic")
    forward: Literal["native", "flat", "merged", "row_by_row"] | None = Field(
        default=None,
        description="how sequences that run together are computed: all tokens in one pass, by native code or by mlx,"
        " merged while they decode, or each by itself; it is the first of these that gives the same logits as a"
        " sequence alone",
    )
    not_native: str | None = Field(
        default=None, description="why native code does not compute it, on a backend that has such code"
    )
    tool_format: str | None = Field(
        default=None, description="how it writes tool calls, by its chat template; absent if that does not tell"
    )
    reasoning: bool | None = Field(
        default=None, description="whether reasoning is looked for in its answers, by its chat template"
    )
    generates: bool | None = Field(default=None, description="whether it continues prompts")
    embedding: EmbeddingCard | None = None
    reranks: bool | None = Field(default=None, description="whether it scores documents by a query")


class LoadParams(Received):
    model: ModelName
    path: Name | None = Field(
        default=None, description="a local directory; without it, model is the name of one or of a model on the hub"
    )
    revision: Name | None = None
    adapter: ModelName | None = None
    pin: Annotated[bool, NullIs(False)] = Field(default=False, description="never evict it")
    ttl_s: Annotated[float, Field(gt=0)] | None = Field(default=None, description="unload after this long without use")
    dtype: Dtype | None = None
    progress: ProgressToken | None = Field(default=None, description="turns progress notifications on, under this name")


class LoadResult(ModelCard):
    """The card of the model, and the seconds that loading took: 0 if it was resident."""

    load_s: Seconds


class UnloadParams(Received):
    model: ModelName
    force: Annotated[bool, NullIs(False)] = Field(default=False, description="end its running streams with an error")


class UnloadResult(Sent):
    freed_bytes: Count


class ModelsResult(Sent):
    models: list[ModelCard]


# Text.


class TokenizeParams(Received):
    model: ModelName
    text: str
    add_special: Annotated[bool, NullIs(True)] = Field(
        default=True, description="whether the tokenizer adds its own special tokens, as for a prompt"
    )
    pieces: Annotated[bool, NullIs(False)] = Field(default=False, description="answer the text of each token too")
    escape_special: Annotated[bool, NullIs(False)] = Field(
        default=False, description="whether the text is kept from becoming control tokens"
    )


class TokenizeResult(Sent):
    tokens: list[TokenId]
    count: Count
    pieces: list[str] | None = None


class DetokenizeParams(Received):
    model: ModelName
    tokens: TokenIds


class DetokenizeResult(Sent):
    text: str


class RenderParams(Received):
    """A chat to be rendered and tokenised as ``generate`` would."""

    model: ModelName
    messages: Annotated[list[Message], Field(min_length=1), FirstFault()]
    tools: list[dict[str, Any]] | None = None
    template_args: dict[str, Any] | None = None
    add_generation_prompt: Annotated[bool, NullIs(True)] = True
    escape_special: Annotated[bool, NullIs(False)] = Field(
        default=False,
        description="whether text of messages, tools and template_args is kept from becoming control tokens",
    )


class RenderResult(Sent):
    text: str
    tokens: list[TokenId]
    warnings: list[ResultWarning] | None = Field(default=None, description="absent if there are none")


class CheckDraftParams(Received):
    """Two models: ``draft`` would make proposals for ``model``. Neither is loaded for this."""

    model: ModelName
    draft: ModelName


class CheckDraftResult(Sent):
    """Whether every token of the two models has the same id and the same bytes."""

    compatible: bool
    because: str | None = Field(default=None, description="the first difference; absent if there is none")


# Streams.


class StreamCancelParams(Received):
    stream: StreamId


class StreamSubscribeParams(Received):
    stream: StreamId
    after_seq: Annotated[int, Field(ge=0)] | None = Field(
        default=None, description="number of the last delta that the host has; without it: none"
    )


class StreamSubscribeResult(Sent):
    """The state of the stream. ``finish_reason`` is absent until it has ended."""

    stream: StreamId
    last_seq: Count | None = Field(default=None, description="number of the last delta; absent if there was none")
    finish_reason: FinishReason | None = None


class StreamAckParams(Received):
    stream: StreamId
    seq: Annotated[int, Field(ge=0)] = Field(description="number of the last delta that the host has read")


# The contract itself.


class DiscoverResult(Sent):
    """An OpenRPC document."""

    openrpc: str
    info: dict[str, Any]
    methods: list[dict[str, Any]]
    components: dict[str, Any]
    notifications: list[dict[str, Any]] = Field(
        alias="x-notifications", description="notifications of the sidecar, for which OpenRPC has no member"
    )
