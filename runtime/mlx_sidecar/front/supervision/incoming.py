"""This module passes each message of the engine to the control request or the client that it is for."""

from __future__ import annotations

import logging
from collections.abc import Callable

from mlx_sidecar_protocol import errors

from ...containment import LEAVING
from ...link.codec import Unreadable
from ...link.control_messages import Loaded, Progress
from ...link.faults import error_from, fault_of
from ...link.messages import Cancel, Dropped, Evicted, Fault, Finished, Ready, Refused, Reply, Timing, ToFront, Tokens
from .engine_client import EngineClient
from .engine_connection import EngineConnection
from .pending_calls import PendingCalls

# Hosts see this name in `log` notifications, so it stays while files move.
log = logging.getLogger("mlx_sidecar.link.supervisor")


class Incoming:
    """Sorts the engine's messages. ``on_ready`` gets the first; ``on_refused`` the fault of one that cannot serve."""

    def __init__(
        self,
        client: EngineClient,
        calls: PendingCalls,
        on_ready: Callable[[EngineConnection, Ready], None],
        on_refused: Callable[[EngineConnection, Fault], None],
    ) -> None:
        self._client = client
        self._calls = calls
        self._on_ready = on_ready
        self._on_refused = on_refused

    def take(self, engine: EngineConnection, message: ToFront | Unreadable) -> None:
        """Pass ``message`` on. An error in our own code is logged, and must not cost other requests their engine."""
        try:
            self._pass_on(engine, message)
        except LEAVING:
            raise
        except BaseException:
            log.exception("a message of the engine could not be taken in")
            if isinstance(message, Reply | Refused):
                self._calls.settle(message.op, errors.InternalError())

    def _pass_on(self, engine: EngineConnection, message: ToFront | Unreadable) -> None:
        match message:
            case Unreadable():
                self._unread(engine, message)
            case Tokens():
                engine.decoded = True
                self._client.on_tokens(message)
            case Finished():
                self._client.on_finished(message)
            case Dropped():
                self._client.on_dropped(message)
            case Evicted():
                self._client.on_evicted(message.model)
            case Progress():
                self._calls.progressed(message)
            case Ready():
                self._on_ready(engine, message)
            case Refused(op=0):
                self._on_refused(engine, message.fault)
            case Refused():
                self._calls.settle(message.op, error_from(message.fault))
            case _:
                engine.loaded |= isinstance(message, Loaded)
                self._calls.settle(message.op, message)

    def _unread(self, engine: EngineConnection, message: Unreadable) -> None:
        """End the one request that ``message`` was about; its cause is a single odd value, so the engine goes on."""
        log.error("a %s of the engine cannot be read", message.type)
        if message.op and message.type != Progress.__name__:
            self._calls.settle(message.op, errors.InternalError())
        elif message.seq:
            engine.write(Cancel(message.seq))
            fault = fault_of(errors.InternalError())
            self._client.on_finished(Finished(message.seq, "error", True, Timing(), fault=fault))
