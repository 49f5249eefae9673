"""Writes the listing of clients/README.md from the schemas: every method, notification and error.

Usage: ``listing.py [--check]``; with ``--check`` it only says whether the listing is current. A notification or an
error that is new has to be described here first.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "clients" / "README.md"
BEGIN, END = "<!-- listing -->\n", "<!-- end of listing -->\n"

# Errors that are listed once, and not with each method.
COMMON = ("invalid_params", "internal_error", "shutting_down", "overloaded", "duplicate_id", "cancelled")
# Those of the engine and of models, for each method that names a model.
OF_MODELS = (
    "engine_lost",
    "engine_stalled",
    "model_not_loaded",
    "model_not_found",
    "model_load_failed",
    "model_unsupported",
    "out_of_memory",
)

# The duty of a client with a notification of the sidecar.
NOTIFICATIONS = {
    "stream/delta": "hand it to the reader of its `stream`; with a `window`, acknowledge it when it was taken",
    "stream/interrupted": "nothing, or tell the user: the stream goes on with its next number",
    "progress": "hand it to the caller of the `load` with this `token`",
    "log": "write it to the host's log",
    "engine/state": "keep the last one, and tell the host",
}

# The duty of a client, or of its user, for each error.
ERRORS = {
    "parse_error": "a bug of the client: what it sent is no JSON",
    "nesting_too_deep": "refuse it before it is sent: `limits.nesting` of `initialize`",
    "invalid_request": "a bug of the client: no request, or `initialize` twice",
    "frame_too_large": "refuse it before it is sent: `limits.frame_bytes` of `initialize`",
    "batch_too_long": "send fewer requests at once: `limits.batch` of `initialize`",
    "too_many_values": "send a smaller message",
    "method_not_found": "the sidecar is older than the client: see `capabilities.methods`",
    "invalid_params": "tell the caller which parameter: `errors[].loc`, `msg`",
    "internal_error": "tell the caller; a bug of the sidecar, or the failure of a step",
    "model_not_found": "tell the user to `load` it, which gets it from the hub",
    "model_load_failed": "tell the user why: `because`",
    "model_unsupported": "tell the user why: `because`",
    "adapter_load_failed": "tell the user why: `because`",
    "adapter_unsupported": "tell the user why: `because`",
    "not_initialized": "a bug of the client: `initialize` was not answered yet",
    "shutting_down": "start another sidecar",
    "model_not_loaded": "`load` it: the sidecar loads nothing by itself here",
    "model_in_use": "wait for its streams, or `unload` with `force`",
    "context_too_long": "shorten the prompt: `have` tokens, `limit` fit",
    "unsupported_parameter": "leave it out, or tell the caller: `name`, `because`",
    "constraint_unsatisfiable": "tell the caller: form, bias and stop tokens leave no token",
    "overloaded": "try again after `retry_after_s`",
    "out_of_memory": "try again, or with less: `need_bytes`, `have_bytes`",
    "deadline_passed": "tell the caller: the time was over before it began",
    "engine_lost": "try again; if it comes again, tell the user",
    "engine_stalled": "try again; if it comes again, tell the user",
    "poison_request": "do not send it again: it ends every engine",
    "non_finite_logits": "tell the caller: the model computes no numbers for this text",
    "non_finite_embedding": "tell the caller: the model computes no numbers for this text",
    "unknown_stream": "the stream has ended, or was never there",
    "unknown_session": "open the session again, with its messages",
    "unknown_adapter": "load the adapter again",
    "duplicate_stream": "a bug of the client: names of streams are used once",
    "duplicate_id": "a bug of the client: ids of open requests are used once",
    "cancelled": "nothing: the client has asked for it",
}


def listing(registry: dict[str, Any]) -> str:
    """The text between the marks of the page."""
    methods = registry["methods"]
    requests = [one for one in methods if one["direction"] == "host-to-sidecar"]
    notices = [one for one in methods if one["direction"] == "sidecar-to-host"]
    lines = [
        f"Protocol {registry['protocol_version']}. Any request may be answered with {_names(COMMON)};",
        f"a request that needs a model also with {_names(OF_MODELS)} (below: *of models*).",
        "",
        "| to the sidecar | | errors of its own |",
        "|---|---|---|",
        *(f"| {_method(one)} | {one['summary']} | {_errors(one)} |" for one in requests),
        "",
        "| from the sidecar | | a client |",
        "|---|---|---|",
        *(f"| `{one['name']}` | {one['summary']} | {NOTIFICATIONS[one['name']]} |" for one in notices),
        "",
        "| error | code | try again | what to do |",
        "|---|---|---|---|",
        *(_error(one) for one in registry["errors"]),
        "",
    ]
    return "\n".join(lines)


def _method(method: dict[str, Any]) -> str:
    return f"`{method['name']}`" + (", a notification" if method["kind"] == "notification" else "")


def _errors(method: dict[str, Any]) -> str:
    return ", ".join(_own([error["kind"] for error in method["errors"]]))


def _own(kinds: list[str]) -> Iterator[str]:
    of_models = set(OF_MODELS) <= set(kinds)
    if of_models:
        yield "*of models*"
    for kind in kinds:
        if kind not in COMMON and not (of_models and kind in OF_MODELS):
            yield f"`{kind}`"


def _error(error: dict[str, Any]) -> str:
    retryable = "yes" if error["retryable"] else ""
    return f"| `{error['kind']}` | {error['code']} | {retryable} | {ERRORS[error['kind']]} |"


def _names(kinds: tuple[str, ...]) -> str:
    return ", ".join(f"`{kind}`" for kind in kinds)


def main(words: list[str]) -> int:
    """Write the page, or check it: 0 if it is current."""
    registry = json.loads((ROOT / "schemas" / "methods.json").read_text(encoding="utf-8"))
    page = PAGE.read_text(encoding="utf-8")
    before, _, rest = page.partition(BEGIN)
    _, _, behind = rest.partition(END)
    current = f"{before}{BEGIN}{listing(registry)}{END}{behind}"
    if words == ["--check"]:
        return int(page != current)
    PAGE.write_text(current, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
