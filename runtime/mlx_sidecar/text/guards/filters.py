"""The filters that can make much of little, or take long: what is asked before they run, and some that count inside.

Each guard takes what the filter is given: the value, then the arguments.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from ..budget import ELEMENT, LIST_LIMIT, current
from .formats import check_percent
from .methods import check_product, check_replace, check_slow, check_width
from .operators import add
from .values import check_items, text


def joined(parts: Iterable[Any], between: Any) -> str:
    """The filter ``join``."""
    budget, separator = current(), str(between)
    texts: list[str] = []
    for part in parts:
        texts.append(text(part))
        if len(texts) > LIST_LIMIT:
            budget.items(len(texts))
    budget.text(sum(map(len, texts)) + len(separator) * len(texts))
    return separator.join(texts)


def added(parts: Iterable[Any], start: Any) -> Any:
    """The filter ``sum``, one addition at a time: lists can be added too."""
    for part in parts:
        start = add(start, part)
    return start


def weighing(items: Iterator[Any]) -> Iterator[Any]:
    """``items``, which ``map`` gives, as long as they weigh no more together than a list may."""
    budget, weight = current(), 0
    for item in items:
        weight += budget.weigh(item)
        budget.fits(weight)
        yield item


def check_json(value: Any, indent: Any, separators: Any) -> None:
    """Before ``json.dumps``, for ``tojson``, whose white space is the template's to choose."""
    budget = current()
    space = len(indent) if isinstance(indent, str) else indent or 0
    space += sum(map(len, separators)) if isinstance(separators, list | tuple) else 0
    if space > 100:
        budget.refuse("to indent by more than 100 characters")
    if indent is not None:
        # Each line is indented by its depth, and by Python's slow encoder handed on from depth to depth.
        levels = budget.weigh(value) // ELEMENT * budget.depth(value)
        if levels > 2**24 or levels * space > 2**26:
            budget.refuse("to indent so many lines so deep")
        budget.tick(4 * levels)
    elif space > 8:
        budget.text(budget.weigh(value) * space)
    budget.tick()


def _check_count(value: Any, count: Any = 0, fill: Any = None, *_: Any, **more: Any) -> None:
    """``batch`` and ``slice``."""
    check_items(value)
    budget = current()
    count, fill = more.get("linecount", more.get("slices", count)), more.get("fill_with", fill)
    if isinstance(count, int):
        budget.items(max(count, 0))
        budget.fits(budget.weigh(fill) * max(count, 0))


def _check_center(value: Any, width: Any = 80) -> None:
    check_width(str(value), width)


def _check_format(template: Any, *args: Any, **kwargs: Any) -> None:
    check_percent(str(template), kwargs or args)


def _check_indent(value: Any, width: Any = 4, *_: Any, **__: Any) -> None:
    if isinstance(value, str):
        indent = len(width) if isinstance(width, str) else width
        current().items(len(value) // 4)  # as for splitlines, which it is made of
        lines = len(value.splitlines()) + 2
        current().text(len(value) + lines * max(indent, 0))


def _check_replace(value: Any, old: Any = "", new: Any = "", *_: Any, **more: Any) -> None:
    check_replace(str(value), str(more.get("old", old)), str(more.get("new", new)))


def _check_round(_value: Any, precision: Any = 0, *_: Any, **__: Any) -> None:
    if isinstance(precision, int) and abs(precision) > 400:
        current().refuse("to round to more than 400 digits")


def _check_trim(value: Any, chars: Any = None) -> None:
    check_product(str(value), chars)


FILTERS: dict[str, Callable[..., None]] = {
    **dict.fromkeys(
        ("dictsort", "groupby", "join", "list", "map", "max", "min", "reject", "rejectattr", "reverse"), check_items
    ),
    **dict.fromkeys(("select", "selectattr", "sort", "sum", "unique"), check_items),
    **dict.fromkeys(
        ("pprint", "striptags", "title", "urlencode", "urlize", "wordcount", "wordwrap", "xmlattr"), check_slow
    ),
    **dict.fromkeys(("batch", "slice"), _check_count),
    "center": _check_center,
    "format": _check_format,
    "indent": _check_indent,
    "replace": _check_replace,
    "round": _check_round,
    "trim": _check_trim,
}

# What hands on a value that was there before: nothing to charge.
HANDED_ON = frozenset({"attr", "d", "default", "first", "last", "max", "min", "random"})
