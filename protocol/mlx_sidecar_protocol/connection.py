"""Parameters and results of the methods that begin and end a connection.

They stand apart because ``initialize`` is answered before the models of all other methods are imported.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from .model import Count, Label, NullIs, Received, RequestId, Sent


class NoParams(Received):
    """A method without parameters."""


class EmptyResult(Sent):
    """A result without members."""


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
    sessions: Count | None = Field(
        default=None, description="open sessions; above it, others are refused as overloaded"
    )
    sessions_bytes: Count | None = Field(
        default=None,
        description="bytes of all sessions: 4 for each token, and their messages as JSON; above it, requests that "
        "would add to them are refused as overloaded",
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
