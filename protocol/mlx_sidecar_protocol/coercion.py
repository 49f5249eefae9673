"""Mends values that some languages cannot write, because they have one kind of number or one kind of empty table.

Whole numbers arrive with a fraction (``64.0``), empty objects as ``[]`` and empty arrays as ``{}``. JSON Schema takes
the first for an integer, and the others have one meaning where an object or an array is due. Only values that
validation refused are changed: free content, such as a template's arguments, stays as it came.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any


def _whole(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _object(value: Any) -> Any:
    return {} if value == [] else value


def _array(value: Any) -> Any:
    return [] if value == {} else value


_MENDERS: dict[str, Callable[[Any], Any]] = {  # by the type of the error
    "int_type": _whole,
    "string_or_integer": _whole,
    "dict_type": _object,
    "model_type": _object,
    "list_type": _array,
}


def as_meant(params: Any, faults: Iterable[tuple[str, Sequence[int | str]]]) -> Any:
    """``params`` with those ``faults`` mended that can be; a fault is the type of a pydantic error and its path."""
    for type_, way in faults:
        if type_ in _MENDERS:
            params = _mended(params, way, _MENDERS[type_])
    return params


def _mended(value: Any, way: Sequence[int | str], mend: Callable[[Any], Any]) -> Any:
    """A copy of ``value`` with ``mend`` applied to the value at the path ``way``."""
    if not way:
        return mend(value)
    key, rest = way[0], way[1:]
    if isinstance(value, dict) and key in value:
        return {**value, key: _mended(value[key], rest, mend)}
    if isinstance(value, list) and isinstance(key, int):
        if not rest:  # validation ends at a list's first fault, and later ones are likely of the same kind
            return [mend(element) for element in value]
        return [_mended(element, rest, mend) if at == key else element for at, element in enumerate(value)]
    return value  # the path names something that is not in the message, such as a member of a union
