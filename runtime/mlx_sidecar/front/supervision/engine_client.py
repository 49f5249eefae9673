"""Who has sequences on the engine, as the supervisor sees it."""

from __future__ import annotations

from typing import Protocol

from mlx_sidecar_protocol.errors import RpcError

from ...link.messages import Dropped, Finished, Tokens


class EngineClient(Protocol):
    """Called on the event loop. What it raises is a bug of ours: it is logged, and the engine goes on."""

    def on_tokens(self, message: Tokens) -> None: ...
    def on_finished(self, message: Finished) -> None: ...
    def on_dropped(self, message: Dropped) -> None: ...
    def on_evicted(self, model: str) -> None: ...

    def on_engine_ready(self) -> None:
        """A new engine takes work. ``Supervisor.restored`` is to be called once it holds what it should."""

    def on_engine_lost(self, running: frozenset[int], because: str, *, forced: bool) -> bool:
        """All sequences are gone; ``running`` are those it worked on. ``forced``: others have killed it, it seems.

        Returns whether that told who causes it.
        """
        ...

    def on_given_up(self, error: RpcError) -> None:
        """There will be no engine until ``Supervisor.wake`` starts one."""
