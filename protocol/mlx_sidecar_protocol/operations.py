"""Parameters and results of every method but ``generate``. Times in seconds, sizes in bytes, both in the name."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from .generate import Message, TokenIds
from .generate_result import ResultWarning
from .model import (
    Count,
    FirstFault,
    Label,
    ModelName,
    Name,
    NullIs,
    ProgressToken,
    Received,
    RequestId,
    Seconds,
    Sent,
    StreamId,
    TokenId,
)

Dtype = Literal["float32", "float16", "bfloat16"]


class NoParams(Received):
    """A method without parameters."""


class EmptyResult(Sent):
    """Done, and nothing to say about it."""


# Lifecycle.


class ClientInfo(Received):
    name: Label
    version: Label | None = None


class InitializeParams(Received):
    """``capabilities`` is free: version 1 reads none of the host's."""

    protocol_version: Annotated[int, Field(ge=1)]
    client: ClientInfo
    process_id: Annotated[int, Field(ge=1, lt=2**31)] | None = Field(
        default=None, description="the sidecar leaves when this process does"
    )
    capabilities: dict[str, Any] | None = None


class ServerInfo(Sent):
    name: str
    version: str


class CacheTiers(Sent):
    """Which tiers of the prefix cache are switched on."""

    ram: bool
    disk: bool


class ServerCapabilities(Sent):
    """What this server does, so that a host need not find out by trial."""

    methods: list[str]
    generate_parameters: list[str] = Field(description="the parameters of generate that are honoured")
    autoload: bool = Field(description="whether an operation loads its model by itself")
    cache: CacheTiers


class ServerLimits(Sent):
    """Bounds on what the server takes in at once."""

    frame_bytes: Count
    header_bytes: Count
    batch: Count = Field(description="elements of one batch")
    nesting: Count = Field(description="of arrays and objects")
    values: Count | None = Field(default=None, description="commas of one message, outside of strings")
    members: Count | None = Field(default=None, description="members of all objects of one message")
    containers: Count | None = Field(default=None, description="arrays and objects of one message")
    requests_bytes: Count | None = Field(
        default=None,
        description="of requests that are being worked on; above it, and for a second one of more than 1 MiB, requests "
        "are refused as overloaded",
    )
    answers_bytes: Count | None = Field(
        default=None,
        description="of answers that the host has not read; above it nothing is read, and requests are refused as "
        "overloaded where what waits is a batch's answers",
    )
    waiting_requests: Count | None = Field(default=None, description="above it, requests are refused as overloaded")
    journal_bytes: Count = Field(
        description="for what is remembered of open requests so that they outlive the engine: four bytes a token "
        "of their prompts and of the longest answers they ask for; above it, they are refused as out_of_memory"
    )


class InitializeResult(Sent):
    """``backend`` is absent while the engine is still finding out; ``engine/state`` tells then."""

    protocol_version: Annotated[int, Field(ge=1)]
    server: ServerInfo
    instance: str = Field(description="new for each process")
    backend: str | None = Field(default=None, description="metal, cuda, cpu or fake")
    capabilities: ServerCapabilities
    limits: ServerLimits


class ShutdownParams(Received):
    cancel: Annotated[bool, NullIs(False)] = Field(default=False, description="cancel what runs; else let it end")


class CancelRequestParams(Received):
    id: RequestId


# Models.


class ModelCard(Sent):
    """A model the engine holds, or is about to. What is not known yet is absent."""

    model: str
    state: Literal["loading", "ready"]
    path: str
    pinned: bool
    streams: Count = Field(description="how many are running on it")
    architecture: str | None = None
    parameters: Count | None = None
    dtype: str | None = None
    quantization: str | None = None
    context_length: Count | None = None
    vocabulary: Count | None = None
    memory_bytes: Count | None = None
    last_used_s: Seconds | None = Field(default=None, description="seconds since its last request")
    policy: str | None = Field(default=None, description="how its arithmetic is done")
    forward: Literal["flat", "merged", "row_by_row"] | None = Field(
        default=None,
        description="how sequences that run together are computed: all tokens in one pass, merged while they decode, or"
        " each by itself; a model runs in the first of these that gives it the logits of a sequence alone",
    )


class LoadParams(Received):
    model: ModelName
    path: Name | None = Field(default=None, description="a local directory; without it the name is resolved")
    revision: Name | None = None
    adapter: ModelName | None = None
    pin: Annotated[bool, NullIs(False)] = Field(default=False, description="never evict it")
    ttl_s: Annotated[float, Field(gt=0)] | None = Field(default=None, description="unload after this long without use")
    dtype: Dtype | None = None
    progress: ProgressToken | None = Field(default=None, description="turns progress notifications on")


class LoadResult(ModelCard):
    """The card of the model, and what loading it cost: 0 if it was there."""

    load_s: Seconds


class UnloadParams(Received):
    model: ModelName
    force: Annotated[bool, NullIs(False)] = Field(default=False, description="end its running streams as error")


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
        default=False, description="nothing of the text becomes a control token"
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
    """What ``generate`` would do with these messages, without doing it."""

    model: ModelName
    messages: Annotated[list[Message], Field(min_length=1), FirstFault()]
    tools: list[dict[str, Any]] | None = None
    template_args: dict[str, Any] | None = None
    add_generation_prompt: Annotated[bool, NullIs(True)] = True
    escape_special: Annotated[bool, NullIs(False)] = Field(
        default=False, description="text of messages, tools and template_args never becomes a control token"
    )


class RenderResult(Sent):
    text: str
    tokens: list[TokenId]
    warnings: list[ResultWarning] | None = Field(default=None, description="absent if there is nothing to tell")


# Streams.


class StreamCancelParams(Received):
    stream: StreamId


class StreamSubscribeParams(Received):
    stream: StreamId
    after_seq: Annotated[int, Field(ge=0)] | None = Field(
        default=None, description="the last delta the host has; without it: none"
    )


class StreamSubscribeResult(Sent):
    """Where the stream stood. ``finish_reason`` is there once it has ended."""

    stream: StreamId
    last_seq: Count | None = Field(default=None, description="number of the last delta; absent if there was none")
    finish_reason: Literal["stop", "length", "cancelled", "deadline", "error"] | None = None


class StreamAckParams(Received):
    stream: StreamId
    seq: Annotated[int, Field(ge=0)] = Field(description="this delta and all before it have been read")


# The contract itself.


class DiscoverResult(Sent):
    """An OpenRPC document."""

    openrpc: str
    info: dict[str, Any]
    methods: list[dict[str, Any]]
    components: dict[str, Any]
    notifications: list[dict[str, Any]] = Field(
        alias="x-notifications", description="what the sidecar sends; OpenRPC has no word for it"
    )
