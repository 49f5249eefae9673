"""The limits that a provider tells: when to come back, and what is left of its quotas."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime
from math import isfinite
from typing import Final

_PART: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_UNIT_S: Final = {"ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_WHATS: Final = ("requests", "tokens", "input-tokens", "output-tokens")
_AFTER_429_S: Final = 1.0  # where it does not say when to come back


class Limits:
    """Decides whether a provider is to be left alone for now. Times are seconds of a clock that never goes back.

    longest_s: A bound for all that a provider may ask for, because one wrong header would switch it off for good.
    unix_s: The time since 1970, for headers that tell a date.
    """

    def __init__(self, longest_s: float = 300.0, unix_s: Callable[[], float] = time.time) -> None:
        self._longest_s = longest_s
        self._unix_s = unix_s
        self._until_s = 0.0
        self.remaining: dict[str, int] = {}  # as it was told last, by what is counted

    def wait_s(self, now_s: float) -> float:
        """How long nothing is to be sent; 0 if something may be."""
        return max(0.0, self._until_s - now_s)

    def heard(self, headers: Mapping[str, str], now_s: float) -> None:
        """Take what the headers of any answer say of quotas; nothing is sent while one is known to be used up.

        The reset that both interfaces tell is that of the whole quota, which fills all the time: where the quota's size
        is told as well, the wait is only for its first part.
        """
        for what in _WHATS:
            told = self._told(headers, what)
            if told is None:
                continue
            remaining, limit, reset_s = told
            self.remaining[what] = remaining
            if remaining <= 0 and reset_s is not None:
                parts = max(1, (limit or 1) - remaining) if limit else 1
                self._leave_alone(reset_s / parts, now_s)

    def refused(self, status: int, headers: Mapping[str, str], now_s: float) -> float | None:
        """Take a refusal with 429, 503 or 529; returns how long the provider is left alone, if it is."""
        wait_s = self._retry_after_s(headers)
        if wait_s is None and status == 429:
            wait_s = _AFTER_429_S
        if wait_s is not None:
            self._leave_alone(wait_s, now_s)
            return self.wait_s(now_s)
        return None

    def _leave_alone(self, wait_s: float, now_s: float) -> None:
        self._until_s = max(self._until_s, now_s + min(max(wait_s, 0.0), self._longest_s))

    def _told(self, headers: Mapping[str, str], what: str) -> tuple[int, int | None, float | None] | None:
        """The rest of a quota, its size, and the time until it is whole."""
        for form in (f"x-ratelimit-{{}}-{what}", f"anthropic-ratelimit-{what}-{{}}"):
            remaining = _whole(headers.get(form.format("remaining")))
            if remaining is not None:
                reset = headers.get(form.format("reset"))
                return remaining, _whole(headers.get(form.format("limit"))), self._seconds(reset)
        return None

    def _retry_after_s(self, headers: Mapping[str, str]) -> float | None:
        if (milliseconds := _number(headers.get("retry-after-ms"))) is not None:
            return milliseconds / 1000
        value = headers.get("retry-after")
        if (seconds := _number(value)) is not None:
            return seconds
        try:
            return None if value is None else parsedate_to_datetime(value).timestamp() - self._unix_s()
        except (ValueError, OverflowError):
            return None  # as if it were not there: it is no time

    def _seconds(self, value: str | None) -> float | None:
        """The time until a moment that is told as a duration, such as ``6m0s``, in seconds, or as a date."""
        if value is None:
            return None
        if (seconds := _number(value)) is not None:
            return seconds
        parts = _PART.findall(value)
        if parts and "".join(number + unit for number, unit in parts) == value:
            return float(sum(float(number) * _UNIT_S[unit] for number, unit in parts))
        try:
            return datetime.fromisoformat(value).timestamp() - self._unix_s()
        except (ValueError, OverflowError):
            return None


def _whole(value: str | None) -> int | None:
    number = _number(value)
    return None if number is None else int(number)


def _number(value: str | None) -> float | None:
    try:
        number = float(value) if value is not None else None
    except ValueError:
        return None
    return number if number is not None and isfinite(number) and number >= 0 else None
