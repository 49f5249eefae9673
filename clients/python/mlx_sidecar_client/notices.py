"""Passes the sidecar's notifications, except deltas, to the log and to the host's callbacks."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, TypeVar

from pydantic import ValidationError

from .parameters import OnEngineState, OnProgress
from .protocol.notifications import EngineStateParams, LogParams, ProgressParams, StreamInterrupted

News = TypeVar("News")

log = logging.getLogger("mlx_sidecar")

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


class Notices:
    """Reads notifications; unknown ones are ignored, because the sidecar may be newer."""

    def __init__(self, on_engine_state: OnEngineState | None) -> None:
        self._on_engine_state = on_engine_state
        self.progress: dict[str | int, OnProgress] = {}
        self.engine: EngineStateParams | None = None

    def take(self, method: str, params: dict[str, Any]) -> None:
        """Pass one notification on. An exception of a host's callback is logged, so that the conversation goes on."""
        try:
            self._take(method, params)
        except ValidationError as error:
            log.warning("a notification that this client does not understand: %s", error)

    def _take(self, method: str, params: dict[str, Any]) -> None:
        if method == "log":
            self._log(LogParams.model_validate(params, extra="ignore"))
        elif method == "engine/state":
            self.engine = EngineStateParams.model_validate(params, extra="ignore")
            _tell(self._on_engine_state, self.engine)
        elif method == "progress":
            report = ProgressParams.model_validate(params, extra="ignore")
            _tell(self.progress.get(report.token), report)
        elif method == "stream/interrupted":
            pause = StreamInterrupted.model_validate(params, extra="ignore")
            log.info("stream %s lost its engine and goes on with the next one: %s", pause.stream, pause.because)

    def _log(self, said: LogParams) -> None:
        logger = log if said.logger is None else log.getChild(said.logger)
        logger.log(_LEVELS[said.level], "%s", said.message)


def _tell(callback: Callable[[News], None] | None, news: News) -> None:
    if callback is not None:
        try:
            callback(news)
        except Exception:
            log.exception("a callback of the host failed")
