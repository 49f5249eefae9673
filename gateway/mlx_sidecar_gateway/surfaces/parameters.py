"""The parameters of a route: honoured, declared harmless, or refused. A parameter that is in no list is refused too."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .faults import Refused


@dataclass(frozen=True)
class Harmless:
    """A parameter that changes nothing here, and why that does no harm.

    With ``only`` that holds for these values alone; another value is refused.
    """

    because: str
    only: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Parameters:
    """Every member that a request of a route may have, by name; ``outer.inner`` is a member of an object.

    honoured: The reader of the route reads it. An object whose inner members are listed may have no others.
    harmless: Taken and left aside; the answer names them in ``x-mlx-sidecar-ignored``. Refused with ``--strict``.
    refused: Known, and not to be had here: the reason, for the error.

    A member that is null counts as absent, whatever its list.
    """

    honoured: frozenset[str]
    harmless: Mapping[str, Harmless] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)

    @property
    def listed(self) -> frozenset[str]:
        """All names of the three lists."""
        return self.honoured | self.harmless.keys() | self.refused.keys()

    def ignored(self, body: Mapping[str, Any], *, strict: bool) -> tuple[str, ...]:
        """The harmless parameters that ``body`` has. Raises ``Refused`` for the first that may not be there."""
        found: list[str] = []
        self._sort(body, "", found, strict=strict)
        return tuple(found)

    def _sort(self, members: Mapping[str, Any], prefix: str, found: list[str], *, strict: bool) -> None:
        for member, value in members.items():
            name = prefix + member
            if value is None:
                continue
            if name in self.honoured:
                if isinstance(value, dict) and any(other.startswith(f"{name}.") for other in self.listed):
                    self._sort(value, f"{name}.", found, strict=strict)
            elif (harmless := self.harmless.get(name)) is not None and not strict:
                _check_value(name, value, harmless)
                found.append(name)
            else:
                raise self._refusal(name, strict=strict)

    def _refusal(self, name: str, *, strict: bool) -> Refused:
        if strict and name in self.harmless:
            because = "it would change nothing, and the gateway runs with --strict"
        else:
            because = self.refused.get(name, "no such parameter here")
        return Refused.parameter(name, because, "unsupported_parameter" if name in self.listed else "unknown_parameter")


def _check_value(name: str, value: Any, harmless: Harmless) -> None:
    # 0 == False, so the type counts as well.
    if harmless.only and not any(value == other and type(value) is type(other) for other in harmless.only):
        allowed = ", ".join(repr(other) for other in harmless.only)
        raise Refused.parameter(
            name, f"only {allowed} is taken here, because {harmless.because}", "unsupported_parameter"
        )
