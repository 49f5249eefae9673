"""The operators that can make much of little, each guarded and done. The test ``divisibleby`` is one of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..budget import current
from .formats import check_percent
from .values import made

_INTEGER_BITS = 1 << 16


def add(left: Any, right: Any) -> Any:
    budget = current()
    if isinstance(left, str | bytes) and isinstance(right, str | bytes):
        budget.text(_escaped(left) + _escaped(right))
    elif isinstance(left, list | tuple) and isinstance(right, list | tuple):
        budget.items(len(left) + len(right))
        both = _plus(left, right)
        budget.weigh_sum(both, left, right)
        return both
    return _plus(left, right)


def _plus(left: Any, right: Any) -> Any:
    return left + right  # of what is known to be a list or a tuple, type checkers would not allow it


def _escaped(value: Any) -> int:
    """Characters of a text, at most; what meets ``Markup`` may be escaped."""
    return len(value) if type(value) is str else 6 * len(value)


def subtract(left: Any, right: Any) -> Any:
    current().tick()
    return made(left - right)


def multiply(left: Any, right: Any) -> Any:
    if isinstance(left, int) and isinstance(right, int):
        _check_bits(left.bit_length() + right.bit_length())
    elif isinstance(left, int):
        _check_repeated(right, left)
    elif isinstance(right, int):
        _check_repeated(left, right)
    return left * right


def _check_repeated(value: Any, times: int) -> None:
    budget, times = current(), max(times, 0)
    if isinstance(value, str | bytes):
        budget.text(len(value) * times)
    elif isinstance(value, list | tuple):
        budget.items(len(value) * times)
        budget.fits(budget.weigh(value) * times)


def power(left: Any, right: Any) -> Any:
    if isinstance(left, int) and isinstance(right, int) and right > 0:
        _check_bits(left.bit_length() * right)
    return left**right


def modulo(left: Any, right: Any) -> Any:
    if isinstance(left, str | bytes):
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
    _check_bits(left.bit_length() + right.bit_length() if both else 0)


def _check_bits(bits: int) -> None:
    budget = current()
    budget.tick()
    if bits > _INTEGER_BITS:
        budget.refuse(f"a number of more than {_INTEGER_BITS} bits")


# By how a template writes them. ``/`` makes a float, whatever it is given.
OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "+": add,
    "-": subtract,
    "*": multiply,
    "**": power,
    "%": modulo,
    "//": floor_divide,
}
