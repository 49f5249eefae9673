"""Headers that tell the holder of a key what is left of its quotas."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime


@dataclass(frozen=True)
class Allowance:
    """The rest of one quota: ``what`` is ``requests`` or ``tokens``, ``reset_s`` the time until all is there."""

    what: str
    limit: int
    remaining: int
    reset_s: float


def openai_headers(allowances: Iterable[Allowance], unix_s: float) -> Mapping[str, str]:
    """The headers that OpenAI's clients know."""
    del unix_s
    headers = {}
    for allowance in allowances:
        headers[f"x-ratelimit-limit-{allowance.what}"] = str(allowance.limit)
        headers[f"x-ratelimit-remaining-{allowance.what}"] = str(allowance.remaining)
        headers[f"x-ratelimit-reset-{allowance.what}"] = f"{allowance.reset_s:.3f}s"
    return headers


def anthropic_headers(allowances: Iterable[Allowance], unix_s: float) -> Mapping[str, str]:
    """The headers that Anthropic's clients know."""
    headers = {}
    for allowance in allowances:
        reset = datetime.fromtimestamp(unix_s + allowance.reset_s, UTC).isoformat(timespec="milliseconds")
        headers[f"anthropic-ratelimit-{allowance.what}-limit"] = str(allowance.limit)
        headers[f"anthropic-ratelimit-{allowance.what}-remaining"] = str(allowance.remaining)
        headers[f"anthropic-ratelimit-{allowance.what}-reset"] = reset.replace("+00:00", "Z")
    return headers
