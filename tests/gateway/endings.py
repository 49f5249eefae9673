"""Every way to ask for a streamed answer, and a reader of each surface's streams that judges how they end.

A stream ends truthfully if its whole terminal sequence comes, once, or its error, once, and nothing behind it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from mlx_sidecar_gateway.surfaces.surface import GenerateRoute
from mlx_sidecar_gateway.surfaces.table import SURFACES
from tests.gateway.scripts import call, script
from tests.gateway.support import HELLO

Kind = Literal["chat", "reasoned", "plain"]

# Each is an answer of 20 events, if every token comes alone.
ANSWERS: Mapping[Kind, str] = {
    "chat": "<think>why</think>Hi to you!" + call("f", '{"a": 12}'),
    "reasoned": "<think>Who?</think>It is all of men now.",
    "plain": "twenty letters here.",
}
_MARKERS = ("<think>", "</think>", "<tool_call>")
_SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
_FUNCTION = {"name": "f", "description": "f of a", "parameters": _SCHEMA}
_TOOLS = [{"type": "function", "function": _FUNCTION}]


class Untruthful(AssertionError):
    """A stream ended quietly, twice, or in a way that its surface does not have."""


@dataclass(frozen=True)
class Ended:
    """A stream that has ended: all it said, and then the ``reason`` of a whole answer or the kind of its ``error``.

    calls: The name and the arguments of each.
    """

    reasoning: str = ""
    text: str = ""
    calls: tuple[tuple[str, str], ...] = ()
    reason: str | None = None
    error: str | None = None

    def begins(self, whole: Ended) -> bool:
        """Whether this is as much as had been said of ``whole`` at some moment."""
        names, others = [name for name, _ in self.calls], [name for name, _ in whole.calls]
        arguments = zip(self.calls, whole.calls, strict=False)
        return (
            _begins(self.reasoning, whole.reasoning)
            and _begins(self.text, whole.text)
            and others[: len(names)] == names
            and all(theirs.startswith(ours) for (_, ours), (_, theirs) in arguments)
        )


def _begins(text: str, whole: str) -> bool:
    """Whether ``whole`` begins with ``text``, behind which the beginning of a marker may stand that was cut off."""
    cuts = (marker[:length] for marker in _MARKERS for length in range(len(marker)))
    return any(text.endswith(cut) and whole.startswith(text.removesuffix(cut)) for cut in cuts)


@dataclass(frozen=True)
class Spoken:
    """A route as its clients use it.

    answer: The kind of answer that it can carry.
    body: The request, given the model.
    read: The judgement over the whole body of a stream. Raises ``Untruthful``.
    """

    path: str
    answer: Kind
    body: Callable[[str], dict[str, Any]]
    read: Callable[[bytes], Ended]

    def model(self, **options: int) -> str:
        """The model that gives the answer of this route, with ``options`` of the fake engine."""
        return script(ANSWERS[self.answer], **options)

    def ended(self, status: int, body: bytes) -> Ended:
        """The judgement over a whole response, which may have been refused before its first byte."""
        return self.read(body) if status == 200 else Ended(error=_kind_of_refusal(json.loads(body)))


def _kind_of_refusal(body: Any) -> str:
    error = body["error"]
    return str(body["kind"] if isinstance(error, str) else error.get("kind", error.get("code")))


# Events.


@dataclass(frozen=True)
class Event:
    """A server-sent event; ``name`` is empty where it has none."""

    name: str
    data: str


def _events(body: bytes) -> list[Event]:
    """The events of a stream without its comments."""
    text = body.decode()
    if text and not text.endswith("\n\n"):
        raise Untruthful(f"the last event is cut off: {text[-200:]!r}")
    blocks = [block for block in text.split("\n\n") if block and not block.startswith(":")]
    return [_event(block) for block in blocks]


def _event(block: str) -> Event:
    fields = dict(line.split(": ", 1) for line in block.split("\n"))
    return Event(fields.get("event", ""), fields["data"])


def _judge(whole: bool, errors: Sequence[Any], last_is_error: bool, tail: object) -> None:
    """Raise ``Untruthful`` unless exactly one ending is there, and it is the last thing."""
    if whole and errors:
        raise Untruthful(f"both a terminal sequence and an error: {tail!r}")
    if not whole and not errors:
        raise Untruthful(f"a quiet end: {tail!r}")
    if errors and (len(errors) > 1 or not last_is_error):
        raise Untruthful(f"more than one error, or something behind it: {tail!r}")


# OpenAI.


def _chunks(body: bytes) -> tuple[list[Any], bool]:
    """The chunks, and whether ``[DONE]`` ended them."""
    data = [event.data for event in _events(body)]
    if "[DONE]" in data[:-1]:
        raise Untruthful("something behind [DONE]")
    done = data[-1:] == ["[DONE]"]
    return [json.loads(each) for each in (data[:-1] if done else data)], done


def _chosen(body: bytes) -> tuple[list[Any], str | None, str | None]:
    """The choices of all chunks in their order, and the ending: the reason, or the code of the error."""
    chunks, done = _chunks(body)
    errors = [chunk["error"] for chunk in chunks if "error" in chunk]
    choices = [choice for chunk in chunks for choice in chunk.get("choices", ())]
    reasons = [choice["finish_reason"] for choice in choices if choice["finish_reason"] is not None]
    _judge(done, errors, bool(errors) and "error" in chunks[-1], chunks[-2:])
    if len(reasons) != done or (done and choices[-1]["finish_reason"] is None):
        raise Untruthful(f"a reason that is not the end of a whole answer: {reasons}")
    return choices, (reasons or [None])[0], errors[0]["code"] if errors else None


def read_chat(body: bytes) -> Ended:
    """The judgement over a stream of ``chat/completions``."""
    choices, reason, error = _chosen(body)
    deltas = [choice["delta"] for choice in choices]
    calls: list[list[str]] = []
    for delta in deltas:
        for part in delta.get("tool_calls", ()):
            if "id" in part:
                calls.append([part["function"]["name"], ""])
            calls[part["index"]][1] += part["function"]["arguments"]
    text = "".join(delta.get("content") or "" for delta in deltas)
    reasoning = "".join(delta.get("reasoning_content") or "" for delta in deltas)
    return Ended(reasoning, text, tuple((name, arguments) for name, arguments in calls), reason, error)


def read_completion(body: bytes) -> Ended:
    """The judgement over a stream of ``completions``."""
    choices, reason, error = _chosen(body)
    return Ended("", "".join(choice["text"] for choice in choices), (), reason, error)


def read_response(body: bytes) -> Ended:
    """The judgement over a stream of ``responses``; an error without a kind is told as ``response.failed``."""
    events = _events(body)
    told = [json.loads(event.data) for event in events if event.data != "[DONE]"]
    if any(event.name != data["type"] for event, data in zip(events, told, strict=False)):
        raise Untruthful("an event that has another name than type")
    numbers = [data["sequence_number"] for data in told if "sequence_number" in data]
    if numbers != list(range(len(told))):
        raise Untruthful(f"numbers with a gap: {numbers}")
    wholes = [data for data in told if data["type"] in ("response.completed", "response.incomplete")]
    errors = [data for data in told if data["type"] in ("response.failed", "error")]
    _judge(bool(wholes), errors, bool(errors) and told[-1] is errors[-1], told[-2:])
    if len(wholes) > 1 or (wholes and told[-1] is not wholes[0]):
        raise Untruthful(f"more than one end, or something behind it: {told[-2:]!r}")
    heads = [data["item"] for data in told if data["type"] == "response.output_item.added"]
    places = [data["output_index"] for data in told if data["type"] == "response.output_item.added"]
    calls = tuple(
        (head["name"], _joined(told, "response.function_call_arguments.delta", place))
        for head, place in zip(heads, places, strict=True)
        if head["type"] == "function_call"
    )
    reasoning = _joined(told, "response.reasoning_text.delta") or _joined(told, "response.reasoning_summary_text.delta")
    reason = wholes[0]["response"]["status"] if wholes else None
    return Ended(reasoning, _joined(told, "response.output_text.delta"), calls, reason, _failure(errors))


def _joined(told: Sequence[Any], kind: str, place: int | None = None) -> str:
    mine = (data for data in told if data["type"] == kind and place in (None, data["output_index"]))
    return "".join(data["delta"] for data in mine)


def _failure(errors: Sequence[Any]) -> str | None:
    if not errors:
        return None
    error = errors[0].get("error") or errors[0].get("response", {}).get("error") or errors[0]
    return str(error.get("kind") or error.get("code") or "response.failed")


# Anthropic.


def read_message(body: bytes) -> Ended:
    """The judgement over a stream of ``messages``, whose blocks must be opened and closed in their order."""
    events = _events(body)
    told = [json.loads(event.data) for event in events]
    if any(event.name != data["type"] for event, data in zip(events, told, strict=True)):
        raise Untruthful("an event that has another name than type")
    told = [data for data in told if data["type"] != "ping"]
    kinds = [data["type"] for data in told]
    errors = [data["error"] for data in told if data["type"] == "error"]
    whole = kinds[-2:] == ["message_delta", "message_stop"]
    _judge(whole, errors, kinds[-1:] == ["error"], told[-2:])
    if kinds.count("message_stop") != whole or kinds.count("message_delta") != whole:
        raise Untruthful(f"a part of the terminal sequence in the middle: {kinds}")
    if "message_start" in kinds[1:] or (kinds[0] != "message_start" and kinds != ["error"]):
        raise Untruthful(f"message_start is not the first: {kinds}")
    blocks = list(_blocks(told, whole=whole))
    reason = told[-2]["delta"]["stop_reason"] if whole else None
    calls = tuple((name, text) for kind, name, text in blocks if kind == "tool_use")
    thinking, said = ("".join(text for each, _, text in blocks if each == kind) for kind in ("thinking", "text"))
    return Ended(thinking, said, calls, reason, errors[0]["kind"] if errors else None)


def _blocks(told: Sequence[Any], *, whole: bool) -> Iterator[tuple[str, str, str]]:
    """The type, the name and the text of each block; a block may stay open where the answer is not whole."""
    index, block, text = -1, None, ""
    for data in told:
        kind = data["type"]
        if kind.startswith("content_block") and data["index"] != index + (kind == "content_block_start"):
            raise Untruthful(f"the events of blocks are out of order: {data}")
        if kind == "content_block_start":
            if block is not None:
                raise Untruthful(f"a block begins in another: {data}")
            index, block, text = data["index"], data["content_block"], ""
        elif kind == "content_block_delta":
            if block is None:
                raise Untruthful(f"a delta of no block: {data}")
            delta = data["delta"]
            text += delta.get("text") or delta.get("thinking") or delta.get("partial_json") or ""
        elif kind == "content_block_stop":
            assert block is not None
            yield block["type"], block.get("name", ""), text
            block = None
    if block is not None:
        if whole:
            raise Untruthful("the last block of a whole answer is open")
        yield block["type"], block.get("name", ""), text


# Ollama.


def _lines(body: bytes) -> tuple[list[Any], str | None, str | None]:
    """The lines with text, and the ending: the reason, or the kind of the error."""
    if body and not body.endswith(b"\n"):
        raise Untruthful(f"the last line is cut off: {body[-200:]!r}")
    lines = [json.loads(line) for line in body.splitlines()]
    errors = [line for line in lines if "error" in line]
    wholes = [line for line in lines if line.get("done")]
    _judge(bool(wholes), errors, bool(errors) and lines[-1] is errors[-1], lines[-2:])
    if len(wholes) > 1 or (wholes and lines[-1] is not wholes[0]):
        raise Untruthful(f"more than one end, or something behind it: {lines[-2:]!r}")
    pieces = [line for line in lines if "error" not in line]
    return pieces, wholes[0]["done_reason"] if wholes else None, errors[0]["kind"] if errors else None


def read_lines_of_chat(body: bytes) -> Ended:
    """The judgement over a stream of ``api/chat``."""
    lines, reason, error = _lines(body)
    said = [line["message"] for line in lines]
    functions = [part["function"] for message in said for part in message.get("tool_calls", ())]
    calls = tuple((each["name"], json.dumps(each["arguments"])) for each in functions)
    thinking = "".join(message.get("thinking", "") for message in said)
    return Ended(thinking, "".join(message["content"] for message in said), calls, reason, error)


def read_lines_of_generate(body: bytes) -> Ended:
    """The judgement over a stream of ``api/generate``."""
    lines, reason, error = _lines(body)
    thinking = "".join(line.get("thinking", "") for line in lines)
    return Ended(thinking, "".join(line["response"] for line in lines), (), reason, error)


# The routes.


def _chat(model: str) -> dict[str, Any]:
    usage = {"include_usage": True}
    return {"model": model, "messages": HELLO, "stream": True, "tools": _TOOLS, "stream_options": usage}


def _completion(model: str) -> dict[str, Any]:
    return {"model": model, "prompt": "Hello", "stream": True, "max_tokens": 1000}


def _response(model: str) -> dict[str, Any]:
    return {
        "model": model,
        "input": "Hello",
        "stream": True,
        "store": False,
        "tools": [{"type": "function", **_FUNCTION}],
    }


def _message(model: str) -> dict[str, Any]:
    tools = [{"name": "f", "description": "f of a", "input_schema": _SCHEMA}]
    return {"model": model, "messages": HELLO, "stream": True, "max_tokens": 1000, "tools": tools}


def _lines_of_chat(model: str) -> dict[str, Any]:
    return {"model": model, "messages": HELLO, "stream": True, "tools": _TOOLS}


def _lines_of_generate(model: str) -> dict[str, Any]:
    return {"model": model, "prompt": "Hello", "stream": True}


_KNOWN = (
    Spoken("/chat/completions", "chat", _chat, read_chat),
    Spoken("/completions", "plain", _completion, read_completion),
    Spoken("/responses", "chat", _response, read_response),
    Spoken("/messages", "chat", _message, read_message),
    Spoken("/api/chat", "chat", _lines_of_chat, read_lines_of_chat),
    Spoken("/api/generate", "reasoned", _lines_of_generate, read_lines_of_generate),
)


def streaming_routes() -> list[Spoken]:
    """Every route of the table that streams. Raises ``LookupError`` for one that no reader is known for."""
    known = {spoken.path: spoken for spoken in _KNOWN}
    served = [route.path for surface in SURFACES for route in surface.routes if isinstance(route, GenerateRoute)]
    if unknown := sorted(set(served) - known.keys()):
        raise LookupError(f"no reader here judges the streams of {', '.join(unknown)}")
    return [known[path] for path in served]
