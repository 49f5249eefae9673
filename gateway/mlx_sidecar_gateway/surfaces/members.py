"""Reads the members of an object inside a request, and names the way to one that does not fit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeVar

from .faults import Refused
from .parameters import Parameters

Value = TypeVar("Value")


class Members:
    """One object of a request, at ``way``. A member that is null counts as absent; each reader raises ``Refused``."""

    def __init__(self, value: Any, way: str) -> None:
        if not isinstance(value, Mapping):
            raise Refused.parameter(way, "must be an object")
        self._members: Mapping[str, Any] = {name: each for name, each in value.items() if each is not None}
        self.way = way

    def __contains__(self, name: str) -> bool:
        return name in self._members

    def within(self, parameters: Parameters) -> Members:
        """These members, none of which is outside of ``parameters``. Harmless ones are only for whole requests."""
        try:
            parameters.ignored(self._members, strict=True)
        except Refused as refused:
            fault = refused.fault
            raise Refused(
                replace(fault, param=self.place(fault.param or ""), message=self.place(fault.message))
            ) from None
        return self

    def place(self, name: str) -> str:
        """The way to a member."""
        return f"{self.way}.{name}" if self.way else name

    def has(self, name: str, *values: str) -> str:
        """A member that must be one of ``values``."""
        value = self._members.get(name)
        if value not in values or not isinstance(value, str):
            raise Refused.parameter(self.place(name), f"must be {' or '.join(values)}")
        return value

    def text(self, name: str, default: str | None = None) -> str:
        """A string."""
        return self._typed(name, str, "a string", default)

    def whole(self, name: str, default: int | None = None) -> int:
        """An integer of at least 0."""
        value = self._typed(name, int, "an integer", default)
        if value < 0 or isinstance(value, bool):
            raise Refused.parameter(self.place(name), "must be an integer of at least 0")
        return value

    def boolean(self, name: str, default: bool | None = None) -> bool:
        """True or false."""
        return self._typed(name, bool, "true or false", default)

    def object(self, name: str, default: dict[str, Any] | None = None) -> dict[str, Any]:
        """An object."""
        return self._typed(name, dict, "an object", default)

    def values(self, name: str, default: list[Any]) -> list[Any]:
        """A list of anything."""
        return self._typed(name, list, "a list", default)

    def objects(self, name: str) -> list[Members]:
        """A list of objects; an absent one is empty."""
        return [Members(value, f"{self.place(name)}.{number}") for number, value in enumerate(self.values(name, []))]

    def value(self, name: str) -> Any:
        """A member of any type; None if it is absent."""
        return self._members.get(name)

    def _typed(self, name: str, type_: type[Value], words: str, default: Value | None) -> Value:
        value = self._members.get(name, default)
        if value is None:
            raise Refused.parameter(self.place(name), "is needed")
        if not isinstance(value, type_):
            raise Refused.parameter(self.place(name), f"must be {words}")
        return value
