"""Errors as Ollama's clients read them."""

from __future__ import annotations

import orjson

from ..faults import Fault


def body_of(fault: Fault) -> bytes:
    """The body of an answer with an error status, and the last line of a stream that broke off.

    ``kind`` and ``param`` are more than Ollama sends.
    """
    error = {"error": fault.message, "kind": fault.kind}
    if fault.param is not None:
        error["param"] = fault.param
    return orjson.dumps(error)
