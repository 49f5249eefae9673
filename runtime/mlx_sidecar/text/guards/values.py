"""What a template makes, charged: texts, lists, whatever a call gives."""

from __future__ import annotations

from types import GeneratorType
from typing import Any, TypeVar

from ..budget import ELEMENT, current

_T = TypeVar("_T")


def made(value: Any) -> Any:
    """``value``, which has just been made, charged. A generator comes back as an iterator that ticks."""
    kind = type(value)
    if kind is str or kind is bytes:
        current().tick(len(value))
    elif kind is list or kind is tuple or kind is dict:
        current().tick(ELEMENT * len(value))
    elif kind is GeneratorType:
        return current().lazy(value)
    return value


def weighed(value: _T) -> _T:
    """``value``, a list or the like that has just been made of values that may be anything."""
    current().weigh(value)
    return value


def spread(values: Any) -> Any:
    """What is handed to a call as ``*values``: it becomes a list first."""
    check_items(values)
    return values


def tick(characters: int) -> bool:
    """One turn of a loop; true, so that it can stand in a condition."""
    current().tick(characters)
    return True


def text(value: Any) -> str:
    """``value`` as it is printed, charged."""
    plain = value if type(value) is str else str(value)
    current().tick(len(plain))
    return plain


def concatenated(parts: tuple[Any, ...]) -> str:
    """jinja2's ``~``."""
    texts = [part if type(part) is str else text(part) for part in parts]
    current().text(sum(map(len, texts)))
    return "".join(texts)


def check_items(value: Any, *_: Any, **__: Any) -> None:
    """Before a list is made of ``value``."""
    if hasattr(value, "__len__") and not isinstance(value, type):
        current().items(len(value))
