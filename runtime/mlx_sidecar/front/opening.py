"""The opening of a connection: a session that answers ``initialize`` while all that it will serve is still imported."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from mlx_sidecar_protocol.connection import (
    CacheTiers,
    InitializeParams,
    InitializeResult,
    ServerCapabilities,
    ServerLimits,
)
from mlx_sidecar_protocol.lifecycle import negotiate
from mlx_sidecar_protocol.limits import Limits
from mlx_sidecar_protocol.names import GENERATE_PARAMETERS, HOST_METHODS

from ..config import Config
from .server_info import SERVER, waiting_limit
from .wire.bounds import Bounds
from .wire.mailbox import Mailbox
from .wire.session import Session
from .wire.transport import Incoming, Outgoing

if TYPE_CHECKING:
    from ..link.messages import Ready


class Opening:
    """A session, its mailbox, and what ``initialize`` answers. ``instance`` names the front.

    Bytes come from ``reader`` and go to the writer that ``open_writer`` makes for the mailbox. Of the engine it knows
    what ``ready`` returns, and of ``initialize`` it tells ``on_initialize``: the connection sets both.
    """

    def __init__(
        self, config: Config, instance: str, reader: Incoming, open_writer: Callable[[Mailbox], Outgoing]
    ) -> None:
        self._config, self._instance = config, instance
        self._limits = Limits(
            frame_bytes=config.frame_limit_bytes,
            batch=config.batch_limit,
            nesting=config.nesting_limit,
            values=config.values_limit,
        )
        self.ready: Callable[[], Ready | None] = _nothing
        self.on_initialize: Callable[[], None] = _nothing
        self.mailbox = Mailbox()
        self.session = Session(
            None,
            self._initialize,
            reader=reader,
            writer=open_writer(self.mailbox),
            mailbox=self.mailbox,
            framing=config.framing,
            limits=self._limits,
            bounds=Bounds(self.mailbox, config.requests_limit_bytes, config.answers_limit_bytes),
        )

    def _initialize(self, params: InitializeParams) -> InitializeResult:
        config, ready = self._config, self.ready()
        self.on_initialize()
        return InitializeResult(
            protocol_version=negotiate(params.protocol_version),
            server=SERVER,
            instance=self._instance,
            backend=ready.backend if ready else None,
            capabilities=ServerCapabilities(
                methods=list(HOST_METHODS),
                generate_parameters=list(GENERATE_PARAMETERS),
                autoload=config.autoload,
                cache=CacheTiers(ram=config.caches, disk=config.caches_on_disk),
            ),
            limits=self._server_limits(waiting_limit(ready)),
        )

    def _server_limits(self, waiting_requests: int) -> ServerLimits:
        limits, config = self._limits, self._config
        return ServerLimits(
            frame_bytes=limits.frame_bytes,
            header_bytes=limits.header_bytes,
            batch=limits.batch,
            nesting=limits.nesting,
            values=limits.values,
            members=limits.members,
            containers=limits.containers,
            requests_bytes=config.requests_limit_bytes,
            answers_bytes=config.answers_limit_bytes,
            waiting_requests=waiting_requests,
            journal_bytes=config.journal_limit_bytes,
            sessions=config.sessions_limit,
            sessions_bytes=config.sessions_limit_bytes,
        )


def _nothing() -> None:
    return None
