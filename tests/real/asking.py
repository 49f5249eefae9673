"""Requests of several tests to the real model, and the parts of two answers that must be equal."""

from __future__ import annotations

from typing import Any

from tests.support.host import Frame
from tests.support.sidecar import Sidecar

QUESTIONS = [
    "What is the capital of France?",
    "Count from one to five.",
    "Write one line of Python that prints hello.",
    "Translate 'good morning' into French.",
]


def chat(question: str, **params: Any) -> Frame:
    """Return the parameters of a chat about ``question``."""
    return {"messages": [{"role": "user", "content": question}], "max_tokens": 8, **params}


def alone(process: Sidecar, model: str, requests: list[Frame]) -> list[Frame]:
    """Return the results of ``requests``, sent one after the other, each with an empty cache."""
    results = []
    for params in requests:
        process.call("cache/clear", {"model": model})
        results.append(process.call("generate", {"model": model, **params}))
    return results


def together(process: Sidecar, model: str, requests: list[Frame]) -> list[Frame]:
    """Return the results of ``requests``, all sent at once."""
    process.call("cache/clear", {"model": model})
    ids = [process.request("generate", {"model": model, **params}) for params in requests]
    return [process.result(id_) for id_ in ids]


def said(results: list[Frame]) -> list[tuple[str, list[int], str]]:
    return [(result["text"], result["tokens"], result["finish_reason"]) for result in results]
