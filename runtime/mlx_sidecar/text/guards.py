"""What chat templates do, asked for its size before it is done: operators, methods, filters. No jinja2 in here.

Each guard raises what ``Budget`` raises for what is too much, and otherwise leaves the work, and whatever else may be
wrong with the arguments, to the real thing.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable, Iterator
from types import GeneratorType
from typing import Any

from .budget import LIST_LIMIT, Budget, current

_INTEGER_BITS = 1 << 16
_FORMAT_LIMIT = 16 * 1024  # characters of a format; nobody formats by a book
# A width or precision of five digits, or one that is taken from the values; after the % or the name in brackets.
_PERCENT_WIDTH = re.compile(r"[%)][-+ #]*(?:[0-9]*\.)?(?:[0-9]{5}|\*)")
_SPEC_WIDTH = re.compile(r"[0-9]{5}")
_TEXT = (str, bytes)
# Encodings that take a time in proportion to the text, and make little more of a character than it is. Others are slow
# beyond measure: a minute for the punycode of 20,000 different characters.
_ENCODINGS = frozenset({"utf8", "utf16", "utf32", "ascii", "latin1"})
_ON_ERRORS = frozenset({"strict", "ignore", "replace"})


# What is made.


def made(value: Any) -> Any:
    """``value``, which has just been made, charged. A generator comes back as an iterator that ticks."""
    kind = type(value)
    if kind is str or kind is bytes:
        current().tick(len(value))
    elif kind is list or kind is tuple or kind is dict:
        current().tick(8 * len(value))
    elif kind is GeneratorType:
        return current().lazy(value)
    return value


def weighed(value: Any) -> Any:
    """``value``, a list or the like that has just been made of values that may be anything."""
    current().weigh(value)
    return value


def spread(values: Any) -> Any:
    """What is handed to a call as ``*values``: it becomes a list first."""
    _check_items(values)
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


def joined(parts: Iterable[Any], between: Any) -> str:
    budget, separator = current(), str(between)
    texts: list[str] = []
    for part in parts:
        texts.append(text(part))
        if len(texts) > LIST_LIMIT:
            budget.items(len(texts))
    budget.text(sum(map(len, texts)) + len(separator) * len(texts))
    return separator.join(texts)


def added(parts: Iterable[Any], start: Any) -> Any:
    """``sum``, one addition at a time: lists can be added too."""
    for part in parts:
        start = add(start, part)
    return start


def weighing(items: Iterator[Any]) -> Iterator[Any]:
    """``items``, as long as they weigh no more together than a list may."""
    budget, weight = current(), 0
    for item in items:
        weight += budget.weigh(item)
        budget.fits(weight)
        yield item


# Operators.


def add(left: Any, right: Any) -> Any:
    budget = current()
    if isinstance(left, _TEXT) and isinstance(right, _TEXT):
        budget.text(_escaped(left) + _escaped(right))
    elif isinstance(left, list | tuple) and isinstance(right, list | tuple):
        budget.items(len(left) + len(right))
        both = _plus(left, right)
        budget.weigh_sum(both, left, right)
        return both
    return _plus(left, right)


def _plus(left: Any, right: Any) -> Any:
    return left + right


def subtract(left: Any, right: Any) -> Any:
    current().tick()
    return made(left - right)


def multiply(left: Any, right: Any) -> Any:
    budget = current()
    if isinstance(left, int) and isinstance(right, int):
        _check_bits(budget, left.bit_length() + right.bit_length())
    elif isinstance(left, int):
        _check_repeated(budget, right, left)
    elif isinstance(right, int):
        _check_repeated(budget, left, right)
    return left * right


def _check_repeated(budget: Budget, value: Any, times: int) -> None:
    if isinstance(value, _TEXT):
        budget.text(len(value) * max(times, 0))
    elif isinstance(value, list | tuple):
        budget.items(len(value) * max(times, 0))
        budget.fits(budget.weigh(value) * max(times, 0))


def power(left: Any, right: Any) -> Any:
    if isinstance(left, int) and isinstance(right, int) and right > 0:
        _check_bits(current(), left.bit_length() * right)
    return left**right


def _check_bits(budget: Budget, bits: int) -> None:
    budget.tick()
    if bits > _INTEGER_BITS:
        budget.refuse(f"a number of more than {_INTEGER_BITS} bits")


def modulo(left: Any, right: Any) -> Any:
    if isinstance(left, _TEXT):
        check_percent(left, right)
        return made(left % right)
    _check_division(left, right)
    return left % right


def floor_divide(left: Any, right: Any) -> Any:
    _check_division(left, right)
    return left // right


def divisible(value: Any, by: Any) -> bool:
    """The test ``divisibleby``."""
    return bool(modulo(value, by) == 0)


def _check_division(left: Any, right: Any) -> None:
    """Numbers can be written in hexadecimal, of any length, and to divide them is quadratic."""
    both = isinstance(left, int) and isinstance(right, int)
    _check_bits(current(), left.bit_length() + right.bit_length() if both else 0)


def check_percent(template: Any, values: Any) -> None:
    """Before ``template % values``."""
    budget = current()
    if len(template) > _FORMAT_LIMIT:
        budget.refuse(f"a format of more than {_FORMAT_LIMIT} characters")
    plain = template if isinstance(template, str) else template.decode("latin-1")
    plain = plain.replace("%%", "")
    if _PERCENT_WIDTH.search(plain):
        budget.refuse("a format with a width beyond 9999")
    fields = plain.count("%")
    # Of a mapping each field may be the whole; a tuple is used up.
    budget.text(len(template) + 10_000 * fields + _weight(values) * (fields if isinstance(values, dict) else 1))


def _weight(values: Any) -> int:
    return current().weigh(values)


def _escaped(value: Any) -> int:
    """Characters of a text, at most; what meets ``Markup`` may be escaped."""
    return len(value) if type(value) is str else 6 * len(value)


def check_format_spec(spec: str) -> None:
    """Before ``format(value, spec)``."""
    if _SPEC_WIDTH.search(spec):
        current().refuse("a format with a width beyond 9999")


# Methods of str and bytes, by name: (the object, arguments).


def _check_width(value: Any, width: Any = 0, *_: Any) -> None:
    if isinstance(width, int):
        current().text(max(len(value), width))


def _check_tabs(value: Any, tabsize: Any = 8) -> None:
    if isinstance(tabsize, int):
        tabs = value.count("\t") if isinstance(value, str) else value.count(b"\t")
        current().text(len(value) + tabs * max(tabsize, 0))


def check_replace(value: Any, old: Any, new: Any, *_: Any) -> None:
    if not (isinstance(value, _TEXT) and type(old) is type(value) is type(new)):
        old, new, value = str(old), str(new), str(value)
    growth = len(new) - len(old)
    current().text(len(value) + (value.count(old) * growth if growth > 0 else 0))


def _check_join(separator: Any, parts: Any = (), *_: Any) -> None:
    if isinstance(parts, str | bytes | list | tuple | dict):
        current().text(sum(len(part) for part in parts if isinstance(part, str | bytes)) + len(separator) * len(parts))
    elif len(separator) > 16:
        current().refuse("to join what has no length by a text of more than 16 characters")


def _check_product(value: Any, other: Any = None, *_: Any) -> None:
    """Searching from the end, and stripping, may look at each character of one for each of the other."""
    if isinstance(other, _TEXT):
        current().work(len(value) * len(other))


def _check_split(value: Any, separator: Any = None, *_: Any) -> None:
    _check_product(value, separator)
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


METHODS: dict[str, Callable[..., None]] = {
    **dict.fromkeys(("center", "ljust", "rjust", "zfill"), _check_width),
    **dict.fromkeys(("rfind", "rindex", "rpartition", "strip", "lstrip", "rstrip"), _check_product),
    **dict.fromkeys(("split", "rsplit", "splitlines"), _check_split),
    **dict.fromkeys(("striptags", "unescape"), _check_short),
    **dict.fromkeys(("translate", "maketrans", "to_bytes", "from_bytes"), _refuse),
    **dict.fromkeys(("encode", "decode"), _check_encoding),
    "expandtabs": _check_tabs,
    "replace": check_replace,
    "join": _check_join,
}


def check_method(method: str, owner: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Before ``owner.method(*args, **kwargs)``. Only texts and numbers have methods of these names."""
    if (guard := METHODS.get(method)) is not None:
        guard(owner, *args, *kwargs.values())


# Filters, by name: (the value, arguments).


def check_slow(value: Any, *args: Any, **kwargs: Any) -> None:
    """Filters for web pages that take their time: for short texts only."""
    limit, weight = 64 * 1024, current().weigh(value)
    current().tick(min(weight, limit) * 512)
    if weight > limit or sum(map(_weight, (*args, *kwargs.values()))) > 1024:
        current().refuse(f"a filter that takes its time, of more than {limit} characters")


def _check_indent(value: Any, width: Any = 4, *_: Any, **__: Any) -> None:
    if isinstance(value, str):
        indent = len(width) if isinstance(width, str) else width
        current().items(len(value) // 4)  # as for splitlines, which it is made of
        lines = len(value.splitlines()) + 2
        current().text(len(value) + lines * max(indent, 0))


def _check_count(value: Any, count: Any = 0, fill: Any = None, *_: Any, **more: Any) -> None:
    """``batch`` and ``slice``."""
    _check_items(value)
    budget = current()
    count, fill = more.get("linecount", more.get("slices", count)), more.get("fill_with", fill)
    if isinstance(count, int):
        budget.items(max(count, 0))
        budget.fits(budget.weigh(fill) * max(count, 0))


def _check_items(value: Any, *_: Any, **__: Any) -> None:
    if hasattr(value, "__len__") and not isinstance(value, type):
        current().items(len(value))


def _check_round(_value: Any, precision: Any = 0, *_: Any, **__: Any) -> None:
    if isinstance(precision, int) and abs(precision) > 400:
        current().refuse("to round to more than 400 digits")


def _check_format(template: Any, *args: Any, **kwargs: Any) -> None:
    check_percent(str(template), kwargs or args)


def _check_replace_filter(value: Any, old: Any = "", new: Any = "", *_: Any, **more: Any) -> None:
    check_replace(str(value), str(more.get("old", old)), str(more.get("new", new)))


def _check_trim(value: Any, chars: Any = None) -> None:
    _check_product(str(value), chars)


FILTERS: dict[str, Callable[..., None]] = {
    **dict.fromkeys(
        ("dictsort", "groupby", "join", "list", "map", "max", "min", "reject", "rejectattr", "reverse"), _check_items
    ),
    **dict.fromkeys(("select", "selectattr", "sort", "sum", "unique"), _check_items),
    **dict.fromkeys(
        ("pprint", "striptags", "title", "urlencode", "urlize", "wordcount", "wordwrap", "xmlattr"), check_slow
    ),
    **dict.fromkeys(("batch", "slice"), _check_count),
    "center": lambda value, width=80: _check_width(str(value), width),
    "format": _check_format,
    "indent": _check_indent,
    "replace": _check_replace_filter,
    "round": _check_round,
    "trim": _check_trim,
}

# What hands on a value that was there before: nothing to charge.
HANDED_ON = frozenset({"attr", "d", "default", "first", "last", "max", "min", "random"})


def check_json(value: Any, indent: Any, separators: Any) -> None:
    """Before ``json.dumps``, whose white space is the template's to choose."""
    budget = current()
    space = len(indent) if isinstance(indent, str) else indent or 0
    space += sum(map(len, separators)) if isinstance(separators, list | tuple) else 0
    if space > 100:
        budget.refuse("to indent by more than 100 characters")
    if indent is not None:
        # Each line is indented by its depth, and by Python's slow encoder handed on from depth to depth.
        levels = budget.weigh(value) // 8 * budget.depth(value)
        if levels > 2**24 or levels * space > 2**26:
            budget.refuse("to indent so many lines so deep")
        budget.tick(4 * levels)
    elif space > 8:
        budget.text(budget.weigh(value) * space)
    budget.tick()


OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "+": add,
    "-": subtract,
    "*": multiply,
    "**": power,
    "%": modulo,
    "/": operator.truediv,
    "//": floor_divide,
}
