"""An event of which only the text is encoded has the bytes of the event that is encoded whole."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlx_sidecar_gateway.surfaces.anthropic.answer import Asked, MessageEncoder
from mlx_sidecar_gateway.surfaces.events import Delta, Reasoning, Text, ToolArguments, ToolStart
from mlx_sidecar_gateway.surfaces.ollama.answer import Answer, ChatAnswer, GenerateAnswer, LineEncoder
from mlx_sidecar_gateway.surfaces.openai import completions
from mlx_sidecar_gateway.surfaces.openai.chat_answers import ChatEncoder, Reply
from mlx_sidecar_gateway.surfaces.repeated import Repeated
from mlx_sidecar_gateway.surfaces.surface import Encoder, Question

ID, UNIX_S = "0" * 32, 1
texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
names = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@given(names, texts)
def test_the_text_may_stand_anywhere_and_hold_anything(name: str, text: str) -> None:
    def event(text: Any) -> bytes:
        return orjson.dumps({name: name, "list": [1, {"text": text}], "\0": "\0"})

    assert Repeated(event).around(text) == event(text)


@dataclass(frozen=True)
class Surface:
    """An encoder for a model's name, and the whole event that tells more of a text, of reasoning or of arguments."""

    encoder: Callable[[str], Encoder]
    text: Callable[[str, str], bytes]
    reasoning: Callable[[str, str], bytes] = lambda _model, _text: b""
    arguments: Callable[[str, str], bytes] = lambda _model, _text: b""


def chat(*, with_usage: bool) -> Surface:
    def chunk(model: str, delta: dict[str, Any]) -> bytes:
        shared = {"id": "chatcmpl-0", "object": "chat.completion.chunk", "created": UNIX_S, "model": model}
        choices = [{"index": 0, "delta": delta, "finish_reason": None}]
        usage = {"usage": None} if with_usage else {}
        return b"data: " + orjson.dumps({**shared, "choices": choices, **usage}) + b"\n\n"

    return Surface(
        lambda model: ChatEncoder(Reply("chatcmpl-0", UNIX_S, model, with_logprobs=False), with_usage=with_usage),
        lambda model, text: chunk(model, {"content": text}),
        lambda model, text: chunk(model, {"reasoning_content": text}),
        lambda model, text: chunk(model, {"tool_calls": [{"index": 1, "function": {"arguments": text}}]}),
    )


def completion() -> Surface:
    def encoder(model: str) -> Encoder:
        generation = completions.read(Question(id=ID, unix_s=UNIX_S, model=model, body={"prompt": "p", "stream": True}))
        return generation.encoder()

    def text(model: str, text: str) -> bytes:
        shared = {"id": f"cmpl-{ID}", "object": "text_completion", "created": UNIX_S, "model": model}
        choice = {"index": 0, "text": text, "logprobs": None, "finish_reason": None}
        return b"data: " + orjson.dumps({**shared, "choices": [choice], "usage": None}) + b"\n\n"

    return Surface(encoder, text)


def message() -> Surface:
    def event(index: int, type_: str, member: str) -> Callable[[str, str], bytes]:
        def whole(_model: str, text: str) -> bytes:
            delta = {"type": type_, member: text}
            data = {"type": "content_block_delta", "index": index, "delta": delta}
            return b"event: content_block_delta\ndata: " + orjson.dumps(data) + b"\n\n"

        return whole

    return Surface(
        lambda model: MessageEncoder(Asked(ID, model, 9)),
        event(0, "text_delta", "text"),
        event(1, "thinking_delta", "thinking"),
        event(3, "input_json_delta", "partial_json"),
    )


def lines(answer: Callable[[str, int], Answer], said: Callable[[str, str], dict[str, Any]]) -> Surface:
    def line(model: str, said: dict[str, Any]) -> bytes:
        return orjson.dumps({"model": model, "created_at": "1970-01-01T00:00:01Z", **said, "done": False}) + b"\n"

    return Surface(
        lambda model: LineEncoder(answer(model, UNIX_S)),
        lambda model, text: line(model, said(text, "")),
        lambda model, text: line(model, said("", text)),
    )


SURFACES = {
    "chat": chat(with_usage=False),
    "chat with usage": chat(with_usage=True),
    "completion": completion(),
    "message": message(),
    "ollama chat": lines(
        ChatAnswer,
        lambda text, thinking: {
            "message": {"role": "assistant", "content": text, **({"thinking": thinking} if thinking else {})}
        },
    ),
    "ollama generate": lines(
        GenerateAnswer, lambda text, thinking: {"response": text, **({"thinking": thinking} if thinking else {})}
    ),
}


@pytest.mark.parametrize("surface", SURFACES)
@given(model=names, cut=st.lists(texts, min_size=6, max_size=6))
def test_events_of_a_surface_are_those_that_are_encoded_whole(surface: str, model: str, cut: list[str]) -> None:
    of = SURFACES[surface]
    encoder = of.encoder(model)

    def told(*events: Delta) -> list[bytes]:
        """The bytes of these events behind the first one, before which a surface may tell more."""
        return [encoder.delta(event) for event in events][1:]

    assert told(Text(cut[0]), Text(cut[1])) == [of.text(model, cut[1])]
    assert told(Reasoning(cut[2]), Reasoning(cut[3])) == [of.reasoning(model, cut[3])]
    calls: list[Delta] = [
        ToolStart(0, "a", "f"),
        ToolStart(1, "b", "f"),
        ToolArguments(1, cut[4]),
        ToolArguments(1, cut[5]),
    ]
    assert told(*calls)[-2:] == [of.arguments(model, text) for text in cut[4:]]
