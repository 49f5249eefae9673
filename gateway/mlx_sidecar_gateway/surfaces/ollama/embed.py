"""Ollama's ``embed``, and the older ``embeddings`` of one prompt."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import orjson

from ..faults import Refused
from ..places import only_text, placed
from ..surface import Backend, Question
from .request import kept_for_s, ttl_s


async def embed(backend: Backend, question: Question) -> bytes:
    """A vector for each text of ``input``."""
    given = question.body.get("input", [])
    if not isinstance(given, str | list):
        raise Refused.parameter("input", "a text or a list of texts is needed")
    began = time.monotonic()
    if isinstance(given, str):
        with placed(only_text("input")):
            result = await _embedded(backend, question, [given])
    else:
        result = await _embedded(backend, question, given)
    return orjson.dumps(
        {
            "model": question.model,
            "embeddings": result["embeddings"],
            "total_duration": int((time.monotonic() - began) * 1e9),
            "load_duration": 0,
            "prompt_eval_count": result["usage"]["prompt_tokens"],
        }
    )


async def embeddings(backend: Backend, question: Question) -> bytes:
    """The vector of ``prompt``."""
    prompt = question.body.get("prompt")
    if not isinstance(prompt, str):
        raise Refused.parameter("prompt", "a text is needed")
    with placed(only_text("prompt")):
        result = await _embedded(backend, question, [prompt])
    return orjson.dumps({"embedding": result["embeddings"][0]})


async def _embedded(backend: Backend, question: Question, texts: list[str]) -> Mapping[str, Any]:
    """The result of the sidecar, whose texts are cut unless the request says otherwise; that of no text is empty."""
    if not question.model:
        raise Refused.parameter("model", "a name is needed")
    model = await backend.resolve_bare(question.model)
    if (kept_s := kept_for_s(question)) is not None:
        await backend.sidecar.request("load", {"model": model, "ttl_s": ttl_s(kept_s)})
    if not texts:
        return {"embeddings": [], "usage": {"prompt_tokens": 0}}
    body = question.body
    params = {name: body[name] for name in ("dimensions",) if name in body} | dict(question.options)
    params |= {"model": model, "input": texts, "truncate": body.get("truncate", True)}
    result = await backend.sidecar.request("embed", params)
    backend.count(result["usage"]["prompt_tokens"])
    return result
