"""Errors that the sidecar answers, one class for each kind, and the loss of the sidecar itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .protocol.error_data import DETAILS
from .protocol.errors import RpcError

_CLASSES = {error.kind: error for error in DETAILS}


class UnknownError(RpcError):
    """An error of a kind that this client does not know, from a newer sidecar; ``kind`` and ``code`` are as sent."""

    def __init__(self, code: int, kind: str, retryable: bool, message: str, details: Mapping[str, Any]) -> None:
        super().__init__(message, **details)
        # In known kinds these are attributes of the class.
        vars(self).update(code=code, kind=kind, retryable=retryable)


class SidecarLost(ConnectionError):
    """The sidecar process ended before its answer, and the request could not be sent again.

    ``text`` and ``tokens`` had been delivered of a stream. ``exit_status`` is negative for a signal, and None if the
    process could not be started or was not waited for.
    """

    def __init__(self, because: str, *, exit_status: int | None = None) -> None:
        super().__init__(because)
        self.because = because
        self.exit_status = exit_status
        self.text = ""
        self.tokens: list[int] = []

    def anew(self, text: str = "", tokens: Sequence[int] = ()) -> SidecarLost:
        """The same loss for another request, with the text and tokens delivered of it."""
        error = SidecarLost(self.because, exit_status=self.exit_status)
        error.text, error.tokens = text, list(tokens)
        return error


class SidecarClosed(RuntimeError):
    """The sidecar was used outside its ``with`` block."""


def from_wire(error: Mapping[str, Any]) -> RpcError:
    """The exception for the ``error`` member of an answer; never fails, even if it is malformed."""
    data = error.get("data")
    details = dict(data) if isinstance(data, Mapping) else {}
    kind, retryable = str(details.pop("kind", "unknown")), details.pop("retryable", False) is True
    code, message = error.get("code"), str(error.get("message", ""))
    known = _CLASSES.get(kind)
    if known is None or known.code != code or known.retryable != retryable:
        return UnknownError(code if isinstance(code, int) else 0, kind, retryable, message, details)
    made = known.__new__(known)  # not its constructor, which would compose the message anew
    RpcError.__init__(made, message, **details)
    return made
