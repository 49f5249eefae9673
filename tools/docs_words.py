"""The meaning of each member of a message: the schema's words, else those of docs/protocol.md, else those below."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from docs_types import Schema

_PAGE = Path(__file__).resolve().parents[1] / "docs" / "protocol.md"

COMMON = {
    "adapter": "the adapter's name",
    "adapters": "one card for each adapter",
    "add_generation_prompt": "whether the text ends where an answer would begin",
    "architecture": "the kind of model that its configuration names",
    "backend": "the device library behind the engine",
    "block_tokens": "tokens of a block",
    "because": "the reason, in a sentence for people",
    "cached_tokens": "tokens that were cached before",
    "client": "the host's name and version, for logs",
    "compatible": "whether the one may propose for the other",
    "components": "the schemas that the methods refer to",
    "context_length": "tokens that prompt and answer may have together",
    "count": "how many tokens there are",
    "counters": "numbers that only grow, by name",
    "device": "the device that the engine computes on",
    "dimensions": "numbers in a vector",
    "disk_bytes": "bytes that are free again on disk",
    "disk": "the part of the cache on disk",
    "done_bytes": "bytes that are done",
    "draft": "the model that would propose tokens",
    "dtype": "the type in which weights are computed",
    "embedding": "what its vectors are like, where it embeds",
    "embeddings": "one vector for each input, in their order",
    "engine": "the engine process",
    "errors": "one entry for each field at fault",
    "field": "which of several texts it is, such as input.3",
    "finish_reason": "why the answer ended",
    "freed_bytes": "bytes that are free again",
    "gauges": "numbers of this moment, by name",
    "have": "how many there were",
    "have_bytes": "bytes that are free",
    "health": "whether front and engine work",
    "histograms": "distributions, by name",
    "id": "the id of the request",
    "index": "the index over cached prefixes",
    "info": "title and version of the document",
    "instance": "differs for each process of the sidecar",
    "level": "how grave the line is",
    "limit": "the bound",
    "limit_bytes": "the bound, in bytes",
    "limits": "how much is taken at once",
    "load_s": "seconds from the first look at the files until weights and text are there",
    "logger": "the part of the sidecar that says it",
    "memory": "bytes, by their use",
    "memory_bytes": "bytes of the engine's memory",
    "message": "a sentence for people",
    "messages": "the chat so far, in OpenAI's shape",
    "methods": "each method with its parameters, result and errors",
    "model": "a directory, a hub id, or `pocket`",
    "models": "one entry for each model",
    "name": "the parameter at fault",
    "nbytes": "bytes of the file, or of what is held",
    "need_bytes": "bytes that it would take",
    "normalized": "whether each vector has the length 1",
    "openrpc": "the version of OpenRPC",
    "parameters": "numbers in the weights",
    "path": "a path in the sidecar's file system",
    "pid": "the process id",
    "pieces": "the text of each token",
    "pinned_tokens": "tokens that are pinned now",
    "pinned": "whether nothing evicts it",
    "pooling": "how the vectors of a text's tokens became one",
    "position": "tokens, of prompt and answer, before the one at fault",
    "prefill_s": "seconds that computing took",
    "priority": "whose turn it is when requests compete",
    "prompt": "the text to continue",
    "protocol_version": "the highest version that is known",
    "quantization": "how weights are stored in fewer bits",
    "query": "the text that documents are held against",
    "queue": "requests that wait, and the bound",
    "ram_bytes": "bytes that are free again in memory",
    "rank": "columns of its smaller matrices",
    "ram": "the part of the cache in memory",
    "removed": "the turns that are gone, or would be",
    "restarts": "engines that were started after the first",
    "results": "a score for each document, the best first",
    "retry_after_s": "seconds after which trying again makes sense",
    "revision": "a branch, tag or commit of a hub model",
    "seed": "the seed of the random choices",
    "seq": "the number of the delta in its stream, from 0 on without gaps",
    "server": "the sidecar's name and version",
    "session": "a handle of `session/open`",
    "state": "what it does now",
    "stream": "the name that the host gave the stream",
    "streams": "streams that run on it",
    "template_args": "more variables for the chat template",
    "text": "text in UTF-8",
    "timing": "where the time went",
    "to": "the turn that becomes the latest",
    "token": "the progress token of `load`",
    "tokens": "token ids",
    "tool_calls": "calls of tools, or fragments of calls",
    "tools": "functions that the model may call, in OpenAI's shape",
    "ttl_s": "seconds without use after which it is closed",
    "turn": "the turn's id",
    "turns": "the turns, from the first on",
    "unit": "what is counted, where it is not requests",
    "uptime_s": "seconds since the sidecar started",
    "usage": "tokens that were read and written",
    "vocabulary": "tokens that the model knows",
    "what": "what there is too much of",
}
OF_METHOD = {
    ("adapter/load", "path"): "the directory of the adapter",
    ("embed", "input"): "texts, or texts as tokens",
    ("generate", "frequency_penalty"): "taken off a token's logit for each time that the answer has it",
    ("generate", "min_p"): "only tokens at least so likely, against the likeliest, are sampled",
    ("generate", "presence_penalty"): "taken off a token's logit once the answer has it",
    ("generate", "top_p"): "only the likeliest tokens that have this probability together are sampled",
    ("initialize", "capabilities"): "what the host can do; nothing is read yet",
    ("load", "adapter"): "a directory in mlx-lm's format, loaded into the weights of a model of its own",
    ("session/fork", "at"): "the turn to go on from; the latest if it is left out",
    ("session/rollback", "dry_run"): "tell what would be removed, and remove nothing",
    ("stream/delta", "text"): "what the text grew by",
    ("stream/delta", "tokens"): "the tokens behind this delta",
}


def meaning(schema: Schema, name: str, method: str = "") -> str:
    """Return what member ``name`` means, in a message of ``method`` or in a type; empty where nothing says it."""
    table = _table("parameter", 3) if method == "generate" else {}
    words = (schema.get("description"), OF_METHOD.get((method, name)), table.get(name), COMMON.get(name))
    return next(filter(None, words), "")


def occasion(kind: str) -> str:
    """Return when an error of ``kind`` is answered, as docs/protocol.md has it."""
    return _table("code", 3, key=1).get(kind, "")


@cache
def _table(header: str, column: int, key: int = 0) -> dict[str, str]:
    """Return one column of the table whose first one is called ``header``, by another one, and without its links."""
    found = re.search(rf"^\| {header} \|.*\n\|[-|]+\n((?:\|.*\n)+)", _PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    rows = [[cell.strip() for cell in row.strip("|").split("|")] for row in found[1].splitlines()] if found else []
    return {row[key].strip("`"): re.sub(r"\[([^]]+)\]\([^)]*\)", r"\1", row[column]) for row in rows}
