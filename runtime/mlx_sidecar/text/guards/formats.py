"""Formats, of ``%`` and of ``str.format``: a width is all it takes to make a text of any length."""

from __future__ import annotations

import re
from typing import Any

from ..budget import current

_FORMAT_LIMIT = 16 * 1024  # characters of a format; nobody formats by a book
# A width or precision of five digits, or one that is taken from the values; after the % or the name in brackets.
_PERCENT_WIDTH = re.compile(r"[%)][-+ #]*(?:[0-9]*\.)?(?:[0-9]{5}|\*)")
_SPEC_WIDTH = re.compile(r"[0-9]{5}")
_TOO_WIDE = "a format with a width beyond 9999"


def check_percent(template: str | bytes, values: Any) -> None:
    """Before ``template % values``."""
    budget = current()
    if len(template) > _FORMAT_LIMIT:
        budget.refuse(f"a format of more than {_FORMAT_LIMIT} characters")
    plain = template if isinstance(template, str) else template.decode("latin-1")
    plain = plain.replace("%%", "")
    if _PERCENT_WIDTH.search(plain):
        budget.refuse(_TOO_WIDE)
    fields = plain.count("%")
    # Of a mapping each field may be the whole; a tuple is used up.
    weight = budget.weigh(values) * (fields if isinstance(values, dict) else 1)
    budget.text(len(template) + 10_000 * fields + weight)


def check_format_spec(spec: str) -> None:
    """Before ``format(value, spec)``."""
    if _SPEC_WIDTH.search(spec):
        current().refuse(_TOO_WIDE)
