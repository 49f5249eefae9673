"""Parameters and results of the methods for lifecycle, models, text and streams."""

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
    """A result without members."""


# Lifecycle.


class ClientInfo(Received):
    name: Label
    version: Label | None = None


class InitializeParams(Received):
    """The host's version and name. ``capabilities`` may hold anything: version 1 reads none of the host's."""

    protocol_version: Annotated[int, Field(ge=1)]
    client: ClientInfo
    process_id: Annotated[int, Field(ge=1, lt=2**31)] | None = Field(
        default=None, description="a process with whose end the sidecar ends too"
    )
    capabilities: dict[str, Any] | None = None


class ServerInfo(Sent):
    name: str
    version: str


class CacheTiers(Sent):
    """Whether each tier of the prefix cache is switched on."""

    ram: bool
    disk: bool


class ServerCapabilities(Sent):
    """The methods and parameters that this server honours."""

    methods: list[str]
    generate_parameters: list[str] = Field(description="the parameters of generate that are honoured")
    autoload: bool = Field(description="whether an operation loads its model by itself")
    cache: CacheTiers


class ServerLimits(Sent):
    """Limits on messages and open requests."""

    frame_bytes: Count
    header_bytes: Count
    batch: Count = Field(description="elements of one batch")
    nesting: Count = Field(description="depth of arrays and objects")
    values: Count | None = Field(default=None, description="commas of one message, outside of strings")
    members: Count | None = Field(default=None, description="members of all objects of one message")
    containers: Count | None = Field(default=None, description="arrays and objects of one message")
    requests_bytes: Count | None = Field(
        default=None,
        description="bytes of requests in work; above it, and for a second request of more than 1 MiB, requests are "
        "refused as overloaded",
    )
    answers_bytes: Count | None = Field(
        default=None,
        description="bytes of answers not yet read by the host; above it the sidecar reads no further, and refuses "
        "requests as overloaded if a batch's answers are waiting",
    )
    waiting_requests: Count | None = Field(default=None, description="above it, requests are refused as overloaded")
    journal_bytes: Count = Field(
        description="bytes of journals, from which open requests outlive the engine: 4 for each token of their prompts "
        "and of the longest answers they ask for; above it, requests are refused as out_of_memory"
    )


class InitializeResult(Sent):
    """The server, its capabilities and its limits. ``backend`` is absent until the first ``engine/state`` has it."""

    protocol_version: Annotated[int, Field(ge=1)]
    server: ServerInfo
    instance: str = Field(description="an id of this process")
    backend: str | None = Field(default=None, description="metal, cuda, cpu or fake")
    capabilities: ServerCapabilities
    limits: ServerLimits


class ShutdownParams(Received):
    cancel: Annotated[bool, NullIs(False)] = Field(
        default=False, description="cancel running requests, instead of waiting for their end"
    )


class CancelRequestParams(Received):
    id: RequestId


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
    finish_reason: Literal["stop", "length", "cancelled", "deadline", "error"] | None = None


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
