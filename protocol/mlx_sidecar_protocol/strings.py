"""Finds and replaces unpaired surrogates in JSON values, which Python allows in strings and UTF-8 does not."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

_SURROGATE = re.compile("[\ud800-\udfff]")


def has_surrogates(value: Any) -> bool:
    """Whether a string anywhere in ``value``, of bounded depth, has an unpaired surrogate."""
    if isinstance(value, str):
        return _SURROGATE.search(value) is not None
    if isinstance(value, Mapping):
        return any(has_surrogates(key) or has_surrogates(part) for key, part in value.items())
    if isinstance(value, list | tuple):
        return any(has_surrogates(part) for part in value)
    return False


def surrogate_place(value: Any) -> tuple[str | int, ...] | None:
    """The members and indices that lead to the first string in ``value`` with an unpaired surrogate; None without one.

    A key with a surrogate is at its object. ``value`` is of bounded depth.
    """
    if isinstance(value, str):
        return () if has_surrogates(value) else None
    if isinstance(value, Mapping):
        if any(has_surrogates(key) for key in value):
            return ()
        parts: Iterable[tuple[str | int, Any]] = value.items()
    else:
        parts = enumerate(value) if isinstance(value, list | tuple) else ()
    places = ((name, surrogate_place(part)) for name, part in parts)
    return next(((name, *place) for name, place in places if place is not None), None)


def replace_surrogates(text: str) -> str:
    """``text`` with ``?`` for every unpaired surrogate."""
    return _SURROGATE.sub("?", text)


def map_strings(value: Any, change: Callable[[str], str]) -> Any:
    """``value``, of bounded depth, with ``change`` applied to every string and key."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        return {change(str(key)): map_strings(part, change) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [map_strings(part, change) for part in value]
    return value
