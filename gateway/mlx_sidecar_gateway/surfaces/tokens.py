"""``tokenize`` and ``detokenize``, each in two shapes: that of llama.cpp's server, and that of vLLM's.

A body with ``content`` is llama.cpp's, one with ``prompt`` or ``messages`` is vLLM's. Their requests to detokenize are
the same, so that the answer has the member of either.
"""

from __future__ import annotations

from typing import Any, Final

import orjson

from mlx_sidecar_client import RpcError

from .faults import Refused
from .members import Members
from .openai.errors import body_of
from .parameters import Harmless, Parameters
from .surface import AnswerRoute, Backend, Question, Surface

# By the member that tells the shape, the others that go with it.
_SHAPES: Final = {
    "content": frozenset({"add_special", "parse_special", "with_pieces"}),
    "prompt": frozenset({"add_special_tokens", "return_token_strs"}),
    "messages": frozenset({"add_generation_prompt", "chat_template_kwargs", "tools"}),
}
_VLLM_OWN: Final = {
    "chat_template": "the model's own template is used",
    "continue_final_message": "an answer cannot be begun for the model",
    "mm_processor_kwargs": "pictures are not understood yet",
}

TOKENIZE: Final = Parameters(
    frozenset({"model", *_SHAPES}).union(*_SHAPES.values()),
    {"user": Harmless("it names the user")},
    _VLLM_OWN,
)
DETOKENIZE: Final = Parameters(frozenset({"model", "tokens"}), {"user": Harmless("it names the user")})

_NAMES: Final = {"escape_special": "parse_special", "template_args": "chat_template_kwargs"}


async def tokenize(backend: Backend, question: Question) -> bytes:
    """The tokens of a text or a chat."""
    body = Members(question.body, "")
    shape = _shape_of(body)
    model = await _model(backend, question)
    answers = {"content": _llama_cpp, "prompt": _vllm_text, "messages": _vllm_chat}
    return await answers[shape](backend, model, body)


async def detokenize(backend: Backend, question: Question) -> bytes:
    """The text of tokens: ``content`` for llama.cpp's clients, ``prompt`` for vLLM's."""
    tokens = question.body.get("tokens")
    if not isinstance(tokens, list) or not all(type(token) is int for token in tokens):
        raise Refused.parameter("tokens", "must be a list of integers")
    text = (await backend.sidecar.detokenize(await _model(backend, question), tokens)).text
    return orjson.dumps({"content": text, "prompt": text})


def _shape_of(body: Members) -> str:
    """The member that tells the shape. Raises ``Refused`` for none, for two, and for one with members of others."""
    shapes = [name for name in _SHAPES if name in body]
    if len(shapes) != 1:
        raise Refused.parameter(shapes[1] if shapes else "content", f"one of {', '.join(_SHAPES)} is needed")
    (shape,) = shapes
    for name in sorted(TOKENIZE.honoured - _SHAPES[shape] - {shape, "model"}):
        if name in body:
            raise Refused.parameter(name, f"does not go with {shape}")
    return shape


async def _model(backend: Backend, question: Question) -> str:
    if not question.model:
        raise Refused.parameter("model", "a name is needed, because the gateway has no default model")
    return await backend.resolve(question.model)


async def _llama_cpp(backend: Backend, model: str, body: Members) -> bytes:
    told = await backend.sidecar.tokenize(
        model,
        body.text("content"),
        add_special=body.boolean("add_special", False),
        escape_special=not body.boolean("parse_special", True),
        pieces=body.boolean("with_pieces", False),
    )
    if told.pieces is None:
        return orjson.dumps({"tokens": told.tokens})
    pairs = zip(told.tokens, told.pieces, strict=True)
    return orjson.dumps({"tokens": [{"id": token, "piece": piece} for token, piece in pairs]})


async def _vllm_text(backend: Backend, model: str, body: Members) -> bytes:
    told = await backend.sidecar.tokenize(
        model,
        body.text("prompt"),
        add_special=body.boolean("add_special_tokens", True),
        pieces=body.boolean("return_token_strs", False),
    )
    return await _counted(backend, model, told.tokens, told.pieces)


async def _vllm_chat(backend: Backend, model: str, body: Members) -> bytes:
    return await _counted(backend, model, await _chat_tokens(backend, model, body), None)


async def _counted(backend: Backend, model: str, tokens: list[int], pieces: list[str] | None) -> bytes:
    context = await _context(backend, model)
    return orjson.dumps({"count": len(tokens), "max_model_len": context, "tokens": tokens, "token_strs": pieces})


async def _chat_tokens(backend: Backend, model: str, body: Members) -> list[int]:
    options: dict[str, Any] = {"add_generation_prompt": body.boolean("add_generation_prompt", True)}
    if "tools" in body:
        options["tools"] = body.values("tools", [])
    if "chat_template_kwargs" in body:
        options["template_args"] = body.object("chat_template_kwargs")
    return (await backend.sidecar.render(model, body.values("messages", []), **options)).tokens


async def _context(backend: Backend, model: str) -> int | None:
    """The length of the model's context in tokens; None where neither the model's card nor its config says it."""
    cards = (await backend.sidecar.models()).models
    if (card := next((card for card in cards if card.model == model), None)) is not None:
        return card.context_length
    try:
        return (await backend.sidecar.local_list(model)).models[0].context_length
    except RpcError as error:
        if error.kind == "model_not_found":  # it has no files, as those of the fake engine
            return None
        raise


SURFACE: Final = Surface(
    "tokens",
    (
        AnswerRoute("POST", "/tokenize", tokenize, TOKENIZE, _NAMES),
        AnswerRoute("POST", "/detokenize", detokenize, DETOKENIZE),
    ),
    body_of,
)
