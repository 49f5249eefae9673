"""The engine's client owns all sequences; this is its interface, which the supervisor calls."""

from __future__ import annotations

from typing import Protocol

from mlx_sidecar_protocol.errors import RpcError

from ...link.messages import Dropped, Finished, Tokens


class EngineClient(Protocol):
    """The supervisor's client, called on the event loop. An exception is a bug: it is logged, and no engine ends."""

    def on_tokens(self, message: Tokens) -> None: ...
    def on_finished(self, message: Finished) -> None: ...
    def on_dropped(self, message: Dropped) -> None: ...
    def on_evicted(self, model: str) -> None: ...

    def on_engine_ready(self) -> None:
        """A new engine takes work. The client calls ``Supervisor.restored`` when models and sequences are back."""

    def on_engine_lost(self, running: frozenset[int], because: str, *, forced: bool) -> bool:
        """All sequences are gone; the device was working on those in ``running``.

        ``forced``: a signal from elsewhere ended the engine, by all signs. Returns whether the loss showed which
        sequence causes it.
        """
        ...

    def on_given_up(self, error: RpcError) -> None:
        """No engine will be started before ``Supervisor.wake``; ``error`` is the answer for open requests."""
