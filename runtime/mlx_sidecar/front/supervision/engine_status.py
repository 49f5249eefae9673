"""The status is the state of the engine as hosts are told it, and the error for requests while there is none."""

from __future__ import annotations

import logging
from collections.abc import Callable

from mlx_sidecar_protocol import errors
from mlx_sidecar_protocol.notifications import EngineState

from ...containment import contained
from ...link.faults import error_from
from ...link.messages import Fault

log = logging.getLogger(__name__)


class EngineStatus:
    """Holds state, reason and number of restarts; ``on_state`` is called with each new state and its reason.

    ``refusal`` is the fault of an engine that cannot serve as configured: the next one could not either.
    ``stalled`` says that a hang ended the last engine.
    """

    def __init__(self, on_state: Callable[[EngineState, str | None], None]) -> None:
        self._on_state = on_state
        self.state: EngineState = "starting"
        self.reason: str | None = None
        self.restarts = 0
        self.refusal: Fault | None = None
        self.stalled = False

    def enter(self, state: EngineState, reason: str | None = None) -> None:
        self.state = state
        with contained(log, "the state of the engine could not be told"):
            self._on_state(state, reason)

    def starting(self) -> None:
        """An engine is about to be started again."""
        self.restarts += 1
        self.enter("starting")

    def cannot_start(self, because: str) -> None:
        """The next engine could not be started."""
        self.stalled, self.reason = False, f"it cannot be started: {because}"

    def error(self, *, stalled: bool = False) -> errors.RpcError:
        """Why no engine takes requests; ``stalled``: there is one, and it hangs.

        Made anew for each request, because a raised error keeps its frames.
        """
        if self.state == "stopped":
            return errors.ShuttingDown()
        if self.refusal is not None:
            return error_from(self.refusal)
        kind = errors.EngineStalled if stalled or self.stalled else errors.EngineLost
        return kind(self.reason or "it is being started")
