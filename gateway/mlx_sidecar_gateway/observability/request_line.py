"""A request's line in the log, made of its record."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import orjson

from ..core.records import Record

BODY_LIMIT_BYTES = 2**20
"""The longest body of a request that is logged; half of one could not be sent again."""

_LONGEST_NAME, _LONGEST_MESSAGE = 200, 500  # characters: of a path or a model a client may send any number
_QUOTES_ANSWERS = "tool_call_error"  # a kind whose message says which piece of the answer is no call


def line_of(record: Record, body: bytes | None, dropped: int) -> bytes:
    """The line of ``record``: a JSON object and a line feed. Members that have nothing to tell are left out.

    body: That of the request, JSON, if bodies are logged; without it the line holds no text of a prompt or an answer.
    dropped: How many lines did not come into the log since the last one that did.
    """
    told = {**_request(record), **_outcome(record, with_text=body is not None), **_times(record), **_tokens(record)}
    members = {name: value for name, value in told.items() if value not in (None, "", ())}
    if dropped:
        members["dropped"] = dropped
    return orjson.dumps(members | _body(body), option=orjson.OPT_APPEND_NEWLINE)


def _request(record: Record) -> dict[str, Any]:
    came = datetime.fromtimestamp(record.came_unix_s, UTC)
    return {
        "ts": came.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "id": record.id,
        "method": record.method,
        "path": record.path[:_LONGEST_NAME],
        "surface": record.surface,
        "client": record.client,
        "key": record.key,
        "model": record.model[:_LONGEST_NAME],
        "provider": record.provider if record.generates else None,
        "stream": record.is_streamed if record.generates else None,
        "priority": record.priority,
        "asked_priority": record.asked_priority if record.asked_priority != record.priority else None,
        "retry": record.retry or None,
        "ignored": record.ignored,
    }


def _outcome(record: Record, *, with_text: bool) -> dict[str, Any]:
    hides = record.outcome == _QUOTES_ANSWERS and not with_text
    return {
        "status": record.status,
        "outcome": record.outcome,
        "failed": True if record.fault_status else None,
        "message": None if hides else record.message[:_LONGEST_MESSAGE],
    }


def _times(record: Record) -> dict[str, float | None]:
    times: dict[str, float | None] = {}
    if (timing := record.timing) is not None:
        times = {
            "queue_s": timing.queue_s,
            "load_s": timing.load_s,
            "prefill_s": timing.prefill_s,
            "decode_s": timing.decode_s,
        }
    times |= {
        "first_token_s": record.first_token_s,
        "longest_gap_s": record.longest_gap_s,
        "duration_s": record.duration_s,
    }
    return {name: None if seconds is None else round(seconds, 6) for name, seconds in times.items()}


def _tokens(record: Record) -> dict[str, int | None]:
    tokens: dict[str, int | None] = {"completion_tokens": record.tokens if record.generates else None}
    if (usage := record.usage) is not None:
        tokens |= {
            "prompt_tokens": usage.prompt_tokens,
            "cached_tokens": usage.cached_tokens,
            "reasoning_tokens": usage.reasoning_tokens,
        }
    return tokens | {
        "pings": record.pings or None,
        "received_bytes": record.received_bytes,
        "sent_bytes": record.sent_bytes,
    }


def _body(body: bytes | None) -> dict[str, Any]:
    if not body:
        return {}
    if len(body) > BODY_LIMIT_BYTES:
        return {"body_left_out": f"it is longer than {BODY_LIMIT_BYTES} bytes"}
    # Line breaks of JSON stand between its values alone: inside texts they are escaped.
    return {"body": orjson.Fragment(body.translate(_IN_ONE_LINE))}


_IN_ONE_LINE = bytes.maketrans(b"\r\n", b"  ")
