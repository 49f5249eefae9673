"""The methods of texts and numbers that can make much of little, or take long: what is asked before they run.

Each guard takes what the method is given: the object, then the arguments.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..budget import current

_SLOW_LIMIT = 64 * 1024  # characters
# Encodings that take a time in proportion to the text, and make little more of a character than it is. Others are slow
# beyond measure: a minute for the punycode of 20,000 different characters.
_ENCODINGS = frozenset({"utf8", "utf16", "utf32", "ascii", "latin1"})
_ON_ERRORS = frozenset({"strict", "ignore", "replace"})


def check_method(method: str, owner: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Before ``owner.method(*args, **kwargs)``. Only texts and numbers have methods of these names."""
    if (guard := _GUARDS.get(method)) is not None:
        guard(owner, *args, *kwargs.values())


def check_slow(value: Any, *args: Any, **kwargs: Any) -> None:
    """Before what is made for web pages and takes its time: for short texts only."""
    budget = current()
    weight = budget.weigh(value)
    budget.tick(min(weight, _SLOW_LIMIT) * 512)
    if weight > _SLOW_LIMIT or sum(map(budget.weigh, (*args, *kwargs.values()))) > 1024:
        budget.refuse(f"a filter that takes its time, of more than {_SLOW_LIMIT} characters")


def check_width(value: Any, width: Any = 0, *_: Any) -> None:
    if isinstance(width, int):
        current().text(max(len(value), width))


def check_product(value: Any, other: Any = None, *_: Any) -> None:
    """Searching from the end, and stripping, may look at each character of one for each of the other."""
    if isinstance(other, str | bytes):
        current().work(len(value) * len(other))


def check_replace(value: Any, old: Any, new: Any, *_: Any) -> None:
    if not (isinstance(value, str | bytes) and type(old) is type(value) is type(new)):
        old, new, value = str(old), str(new), str(value)
    growth = len(new) - len(old)
    current().text(len(value) + (value.count(old) * growth if growth > 0 else 0))


def _check_tabs(value: Any, tabsize: Any = 8) -> None:
    if isinstance(tabsize, int):
        tabs = value.count("\t") if isinstance(value, str) else value.count(b"\t")
        current().text(len(value) + tabs * max(tabsize, 0))


def _check_join(separator: Any, parts: Any = (), *_: Any) -> None:
    if isinstance(parts, str | bytes | list | tuple | dict):
        current().text(sum(len(part) for part in parts if isinstance(part, str | bytes)) + len(separator) * len(parts))
    elif len(separator) > 16:
        current().refuse("to join what has no length by a text of more than 16 characters")


def _check_split(value: Any, separator: Any = None, *_: Any) -> None:
    check_product(value, separator)
    if len(value) > 1024:
        current().items(value.count(separator) if isinstance(separator, type(value)) and separator else len(value) // 4)


def _check_short(value: Any, *_: Any) -> None:
    check_slow(value)


def _check_encoding(value: Any, *how: Any) -> None:
    """``how``: encoding and what to do about errors, one, both or none of them."""
    for word in how:
        if str(word).lower().replace("-", "").replace("_", "") not in _ENCODINGS | _ON_ERRORS:
            current().refuse(f"to encode other than as {', '.join(sorted(_ENCODINGS))}")
    current().text(len(value))


def _refuse(*_: Any) -> None:
    current().refuse("a method that is not for templates")


_GUARDS: dict[str, Callable[..., None]] = {
    **dict.fromkeys(("center", "ljust", "rjust", "zfill"), check_width),
    **dict.fromkeys(("rfind", "rindex", "rpartition", "strip", "lstrip", "rstrip"), check_product),
    **dict.fromkeys(("split", "rsplit", "splitlines"), _check_split),
    **dict.fromkeys(("striptags", "unescape"), _check_short),
    **dict.fromkeys(("translate", "maketrans", "to_bytes", "from_bytes"), _refuse),
    **dict.fromkeys(("encode", "decode"), _check_encoding),
    "expandtabs": _check_tabs,
    "replace": check_replace,
    "join": _check_join,
}
