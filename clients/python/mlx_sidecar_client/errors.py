"""What can go wrong: errors that the sidecar answers, one class for each kind, and the loss of the sidecar itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mlx_sidecar_protocol.error_data import DETAILS
from mlx_sidecar_protocol.errors import RpcError

_CLASSES = {error.kind: error for error in DETAILS}


class UnknownError(RpcError):
    """An error of a kind that this client does not know: the sidecar is newer. ``kind`` and ``code`` are as sent."""

    def __init__(self, code: int, kind: str, retryable: bool, message: str, details: Mapping[str, Any]) -> None:
        super().__init__(message, **details)
        # Fixed in the classes of known kinds; here they are the instance's own.
        vars(self).update(code=code, kind=kind, retryable=retryable)


class SidecarLost(ConnectionError):
    """The sidecar process ended before it had answered, and the request could not be sent again.

    ``text`` and ``tokens`` are what a stream had delivered until then; ``exit_status`` is that of the process, negative
    for a signal, None if it could not be started or was not waited for.
    """

    def __init__(self, because: str, *, exit_status: int | None = None) -> None:
        super().__init__(because)
        self.because = because
        self.exit_status = exit_status
        self.text = ""
        self.tokens: list[int] = []

    def anew(self, text: str = "", tokens: Sequence[int] = ()) -> SidecarLost:
        """The same loss for one more request, with what that had been delivered."""
        error = SidecarLost(self.because, exit_status=self.exit_status)
        error.text, error.tokens = text, list(tokens)
        return error


class SidecarClosed(RuntimeError):
    """The sidecar was used outside its ``with`` block."""


def from_wire(error: Mapping[str, Any]) -> RpcError:
    """The exception for the ``error`` member of an answer. Never fails, however strange that is."""
    data = error.get("data")
    details = dict(data) if isinstance(data, Mapping) else {}
    kind, retryable = str(details.pop("kind", "unknown")), details.pop("retryable", False) is True
    code, message = error.get("code"), str(error.get("message", ""))
    known = _CLASSES.get(kind)
    if known is None or known.code != code or known.retryable != retryable:
        return UnknownError(code if isinstance(code, int) else 0, kind, retryable, message, details)
    made = known.__new__(known)  # their own constructors compose the message, which is there already
    RpcError.__init__(made, message, **details)
    return made
