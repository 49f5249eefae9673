"""Requests that several tests make of the real model, and what must be equal in two answers."""

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
    """Parameters of a chat about ``question``."""
    return {"messages": [{"role": "user", "content": question}], "max_tokens": 8, **params}


def alone(process: Sidecar, model: str, requests: list[Frame]) -> list[Frame]:
    """Results of ``requests``, one after the other, nothing of one known to the next."""
    results = []
    for params in requests:
        process.call("cache/clear", {"model": model})
        results.append(process.call("generate", {"model": model, **params}))
    return results


def together(process: Sidecar, model: str, requests: list[Frame]) -> list[Frame]:
    """Results of ``requests``, all asked at the same moment."""
    process.call("cache/clear", {"model": model})
    ids = [process.request("generate", {"model": model, **params}) for params in requests]
    return [process.result(id_) for id_ in ids]


def said(results: list[Frame]) -> list[tuple[str, list[int], str]]:
    return [(result["text"], result["tokens"], result["finish_reason"]) for result in results]
