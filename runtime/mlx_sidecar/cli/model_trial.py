"""Tries a model step by step: found, read, loaded, its chat rendered, two answers. Each step is a row of a report."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Any

from ..host import Host, SidecarError
from .models.local import count, size

_TEXT = "Hello, wörld 🙂: 1 + 2"
_QUESTION = [{"role": "user", "content": "Say hello in one sentence."}]
_TOKENS = 32
_REPEATED = 16  # the same token so often in a row: the weights are damaged, or packed too tightly

Row = tuple[str, str]


def rows(host: Host, how: dict[str, Any]) -> Iterator[Row]:
    """The report on the model of ``how``, the parameters of ``load``. Raises ``SidecarError`` where it ends early."""
    yield "model", how["model"]
    yield from _files(host, how)
    card = host.call_unless_interrupted("load", how)
    yield "loaded", f"in {card['load_s']:.3f} s: {size(card['memory_bytes'])}, {card['dtype']}, {card['policy']}"
    if card.get("forward") == "row_by_row":
        yield "", "sequences of this architecture are computed one by one, so that several take longer"
    name = {"model": how["model"]}
    yield from _tokenizer(host, name)
    prompt = yield from _template(host, name)
    asked = {**name, **prompt, "max_tokens": _TOKENS}
    first, second = host.call("generate", asked), host.call("generate", asked)
    for result in (first, second):
        if "error" in result:
            raise SidecarError(result["error"])
    yield from _answers(first, second)


def _files(host: Host, how: dict[str, Any]) -> Iterator[Row]:
    try:
        (found,) = host.call("local/list", {"model": how["model"]})["models"]
    except SidecarError as error:
        if error.data.get("kind") != "model_not_found" or "hub" not in str(error):
            raise
        raise SidecarError(_with(error, f"mlx-sidecar models pull {how['model']}")) from error
    yield "files", f"{found['path']}, {size(found['size_bytes'])}"
    if "problem" in found:
        return  # load says it too, as an error
    parameters = f"{count(found['parameters'])} parameters, " if "parameters" in found else ""
    weights = found.get("quantization") or found.get("dtype", "no format of its own")
    yield "", f"{found['architecture']}, {parameters}{weights}, context of {found['context_length']:,} tokens"


def _with(error: SidecarError, advice: str) -> dict[str, Any]:
    return {"code": error.code, "message": f"{error} ({advice})", "data": error.data}


def _tokenizer(host: Host, name: dict[str, str]) -> Iterator[Row]:
    tokens = host.call("tokenize", {**name, "text": _TEXT, "add_special": False})["tokens"]
    back = host.call("detokenize", {**name, "tokens": tokens})["text"]
    kept = "comes back as it was" if back == _TEXT else f"comes back as {back!r}: characters are lost or changed"
    yield "tokenizer", f"{len(tokens)} tokens for {_TEXT!r}, which {kept}"


def _template(host: Host, name: dict[str, str]) -> Generator[Row, None, dict[str, Any]]:
    """Returns the prompt that the model can be asked: a chat, or a text where it has no chat template."""
    try:
        rendered = host.call("render", {**name, "messages": _QUESTION})
    except SidecarError as error:
        yield "template", f"none that can be used: {error}. Prompts work, chats do not"
        return {"prompt": "Hello"}
    yield "template", f"{len(rendered['tokens'])} tokens for a short question"
    for warning in rendered.get("warnings", ()):
        yield "", warning["message"]
    return {"messages": _QUESTION}


def _answers(first: dict[str, Any], second: dict[str, Any]) -> Iterator[Row]:
    yield "answer", repr(first["text"])
    decode_s = first["timing"].get("decode_s")
    if decode_s and len(first["tokens"]) > 1:
        speed = (len(first["tokens"]) - 1) / decode_s
        yield "", f"{speed:.1f} tokens/s alone, first after {first['timing']['first_token_s']:.3f} s"
    if _longest_run(first["tokens"]) >= _REPEATED:
        yield "", "it repeats one token: the weights may be damaged, or packed too tightly"
    usage = second["usage"]
    cached = usage.get("uncached_because") or f"{usage['cached_tokens']} of {usage['prompt_tokens']} tokens cached"
    same = "the same answer" if first["tokens"] == second["tokens"] else "ANOTHER answer to the same question"
    yield "asked again", f"{same}; {cached}"


def _longest_run(tokens: list[int]) -> int:
    longest = run = 0
    for at, token in enumerate(tokens):
        run = run + 1 if at and token == tokens[at - 1] else 1
        longest = max(longest, run)
    return longest
