"""Exit statuses, and the one line that a command ends with when it cannot do what was asked."""

from __future__ import annotations

from typing import Any

from ..host import SidecarError, SidecarGone

FAILED, USAGE, MODEL, REFUSED, ENGINE, CANCELLED = 1, 2, 3, 4, 5, 130

_WHOLE_TEXTS = ("stop", "length", "repeated")  # finish reasons of an answer that is all that was asked for
# By code of the contract, then by kind where kinds of one code differ.
_BY_CODE = {-32001: MODEL, -32003: MODEL, -32004: REFUSED, -32602: REFUSED, -32800: CANCELLED}


class Refused(Exception):
    """A command cannot do what was asked; ``status`` is its exit status."""

    def __init__(self, message: str, status: int = FAILED) -> None:
        super().__init__(message)
        self.status = status


def is_told(error: Exception) -> bool:
    """Whether ``error`` is told in a line: it is no bug of the command."""
    return isinstance(error, SidecarError | SidecarGone | Refused)


def status_of(error: Exception) -> int:
    """The exit status of a command that ends with ``error``."""
    if isinstance(error, Refused):
        return error.status
    return _BY_CODE.get(error.code, ENGINE) if isinstance(error, SidecarError) else ENGINE


def ending(result: dict[str, Any]) -> int:
    """The exit status that the result of a ``generate`` stands for. Of an error inside it the message is told."""
    if "error" in result:
        return tell(SidecarError(result["error"]))
    if not result.get("response_format", {}).get("complete", True) and result["finish_reason"] in _WHOLE_TEXTS:
        return tell(Refused(f"the answer does not have its whole form: it ended with {result['finish_reason']!r}"))
    done = dict.fromkeys(("tool_calls", *_WHOLE_TEXTS), 0)
    return {**done, "cancelled": CANCELLED}.get(result["finish_reason"], FAILED)


def tell(error: Exception) -> int:
    """Write ``error`` to stderr; returns the exit status."""
    from .terminal import complain

    complain(str(error))
    return status_of(error)
