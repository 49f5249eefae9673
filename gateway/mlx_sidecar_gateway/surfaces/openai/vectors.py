"""``embeddings``, and ``rerank`` as Cohere and Jina have it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

import orjson

from ..faults import Refused
from ..parameters import Harmless, Parameters
from ..places import only_text, placed
from ..surface import Backend, Question

# These are options of the sidecar under the same name, which checks their values.
_EMBED = ("dimensions", "instruction", "normalize", "pooling", "prompt", "truncate")
_RERANK = ("instruction", "top_n", "truncate")

EMBEDDINGS = Parameters(
    honoured=frozenset({*_EMBED, "model", "input", "encoding_format"}),
    harmless={"user": Harmless("it names the user to OpenAI")},
)
RERANK = Parameters(
    honoured=frozenset({*_RERANK, "model", "query", "documents", "return_documents"}),
    refused={
        "max_chunks_per_doc": "a document is one text here",
        "max_tokens_per_doc": "a document is cut at the model's limit, with truncate",
        "rank_fields": "documents are texts here",
    },
)


async def embeddings(backend: Backend, question: Question) -> bytes:
    """A vector for each text, as ``encoding_format`` says."""
    body = question.body
    params = {name: body[name] for name in _EMBED if name in body} | dict(question.options)
    params |= {"input": _texts(body), "encoding": _encoding(body), "model": await _model(backend, question)}
    with placed(only_text("input")) if params["input"] is not body["input"] else nullcontext():
        result = await backend.sidecar.request("embed", params)
    data = [
        {"object": "embedding", "index": index, "embedding": vector}
        for index, vector in enumerate(result["embeddings"])
    ]
    return orjson.dumps({"object": "list", "data": data, "model": question.model, "usage": _usage(backend, result)})


async def rerank(backend: Backend, question: Question) -> bytes:
    """The documents by how well they answer the query, best first."""
    body = question.body
    documents = _documents(body)
    shown = body.get("return_documents", False)
    if not isinstance(shown, bool):
        raise Refused.parameter("return_documents", "must be true or false")
    params = {name: body[name] for name in _RERANK if name in body} | dict(question.options)
    params |= {"query": body.get("query"), "documents": documents, "model": await _model(backend, question)}
    result = await backend.sidecar.request("rerank", params)
    results = [
        {**item, "document": {"text": documents[item["index"]]}} if shown else item for item in result["results"]
    ]
    answer = {
        "id": f"rerank-{question.id}",
        "model": question.model,
        "results": results,
        "usage": _usage(backend, result),
    }
    return orjson.dumps(answer)


async def _model(backend: Backend, question: Question) -> str:
    if not question.model:
        raise Refused.parameter("model", "a name is needed")
    return await backend.resolve_bare(question.model)


def _texts(body: Mapping[str, Any]) -> Any:
    """The texts of a request, which may be a single one, or the tokens of a single one."""
    given = body.get("input")
    if isinstance(given, str) or (isinstance(given, list) and given and isinstance(given[0], int)):
        return [given]
    if not isinstance(given, list):
        raise Refused.parameter("input", "a text, a list of tokens, or a list of these is needed")
    return given


def _encoding(body: Mapping[str, Any]) -> str:
    encoding = body.get("encoding_format", "float")
    if encoding not in ("float", "base64"):
        raise Refused.parameter("encoding_format", "float or base64")
    return str(encoding)


def _documents(body: Mapping[str, Any]) -> list[str]:
    """The documents, each a text or an object with one."""
    given = body.get("documents")
    if not isinstance(given, list):
        raise Refused.parameter("documents", "a list of texts is needed")
    return [_text(each) for each in given]


def _text(document: Any) -> str:
    text = document["text"] if isinstance(document, dict) and document.keys() == {"text"} else document
    if not isinstance(text, str):
        raise Refused.parameter("documents", "each is a text, or an object with a text and nothing else")
    return text


def _usage(backend: Backend, result: Mapping[str, Any]) -> dict[str, int]:
    tokens = result["usage"]["prompt_tokens"]
    backend.count(tokens)
    return {"prompt_tokens": tokens, "total_tokens": tokens}
