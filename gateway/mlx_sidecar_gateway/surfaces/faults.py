"""Faults: the reasons for refusals and for answers that broke off, before a surface has put them in its words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Fault:
    """The reason why there is no answer, or no whole one.

    status: The HTTP status, if nothing has been sent yet.
    kind: A stable name: that of the sidecar's error, or one of the gateway's own (``core/faults.py`` has the table).
    message: A sentence for people.
    param: The parameter at fault, in the surface's own name for it; ``messages.2.content`` leads into a value.
    retryable: Whether the same request may succeed later.
    retry_after_s: How long to wait before, if that is known.
    details: More facts for programs, as the sidecar's ``data`` has them.
    """

    status: int
    kind: str
    message: str
    param: str | None = None
    retryable: bool = False
    retry_after_s: float | None = None
    details: Mapping[str, Any] = field(default_factory=dict)


class Refused(Exception):
    """A request is refused with ``fault``. Readers of surfaces raise it; the core answers it."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.message)
        self.fault = fault

    @classmethod
    def parameter(cls, name: str, because: str, kind: str = "invalid_params") -> Refused:
        """The refusal of one parameter, with status 400."""
        return cls(Fault(400, kind, f"{name}: {because}", param=name))
