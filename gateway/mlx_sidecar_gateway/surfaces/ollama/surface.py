"""The routes of Ollama's clients."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any, Final, Literal

import orjson

from ..faults import Fault, Refused
from ..reasoning import can_reason
from ..surface import NDJSON, AnswerRoute, Backend, GenerateRoute, Generation, Instead, Question, Surface
from . import embed
from .answer import Answer, ChatAnswer, GenerateAnswer, LineEncoder
from .faults import body_of
from .models import ps, show, tags
from .parameters import CHAT, EMBED, EMBEDDINGS, GENERATE, SHOW
from .request import NAMES, chat_options, generate_options, generate_way_of, is_streamed, kept_for_s, thinks, ttl_s

API_VERSION: Final = "0.13.0"
"""The version of Ollama whose API this is; clients refuse to speak with one that is too old."""


def read_chat(question: Question) -> Generation | Instead:
    """The generation that a chat is; without messages it is a request to load or unload the model."""
    answer = ChatAnswer(question.model, question.unix_s)
    if not question.body.get("messages"):
        return _without_prompt(question, answer)
    return _generation(question, chat_options(question), answer)


def read_generate(question: Question) -> Generation | Instead:
    """The same of a prompt."""
    answer = GenerateAnswer(question.model, question.unix_s)
    if not (question.body.get("prompt") or question.body.get("system")):
        return _without_prompt(question, answer)
    generation = _generation(question, generate_options(question), answer)
    return replace(generation, way_of=partial(generate_way_of, question))


async def version(backend: Backend, _: Question) -> bytes:
    """The version of the API, and that of the sidecar behind it."""
    server = (await backend.sidecar.server()).server
    return orjson.dumps({"version": API_VERSION, server.name: server.version})


def _generation(question: Question, options: dict[str, Any], answer: Answer) -> Generation:
    kept_s, thinking = kept_for_s(question), thinks(question)
    prepare = None if kept_s is None and thinking is None else partial(_prepare, question.model, kept_s, thinking)
    return Generation(options, is_streamed(question), partial(LineEncoder, answer), answer.whole, NAMES, prepare)


async def _prepare(
    name: str, kept_s: float | None, thinking: bool | None, backend: Backend, model: str
) -> dict[str, Any]:
    """Keep the model for so long, and find out whether it thinks."""
    if backend.engine == "upstream":  # which is told of ``think`` by ``template_args``
        if kept_s is not None:
            because = "the models of this provider are not loaded and unloaded here"
            raise Refused.parameter("keep_alive", because, "unsupported_parameter")
        return {}
    reasons = await can_reason(backend, model, **_ttl(kept_s))
    if thinking and not reasons:
        raise Refused.parameter("think", f"{name!r} does not reason", "unsupported_parameter")
    return {"reasoning_budget": 0} if thinking is False and reasons else {}


def _without_prompt(question: Question, answer: Answer) -> Instead:
    kept_s = kept_for_s(question)

    async def load(backend: Backend, model: str) -> bytes:
        await backend.sidecar.request("load", {"model": model, **_ttl(kept_s)})
        return answer.without_text("load")

    async def unload(backend: Backend, model: str) -> bytes:
        await _unload(backend, model)
        return answer.without_text("unload")

    return Instead(unload if kept_s == 0 else load)


def _ttl(kept_s: float | None) -> dict[str, float]:
    # Of a model that is loaded already this only changes how long it is kept.
    return {} if kept_s is None else {"ttl_s": ttl_s(kept_s)}


async def _unload(backend: Backend, model: str) -> None:
    cards = (await backend.sidecar.models()).models
    if any(card.pinned for card in cards if card.model == model):
        raise Refused.parameter("keep_alive", "the gateway was started with this model, and keeps it")
    await backend.sidecar.unload(model)


def _refused(path: str, because: str, method: Literal["POST", "DELETE"] = "POST") -> AnswerRoute:
    async def answer(*_: object) -> bytes:
        raise Refused(Fault(501, "not_served", f"{path}: {because}"))

    return AnswerRoute(method, path, answer)


_OWN_MODELS: Final = "models are added and deleted by the commands of mlx-sidecar"

SURFACE: Final = Surface(
    "ollama",
    (
        GenerateRoute("/api/chat", CHAT, read_chat, NDJSON),
        GenerateRoute("/api/generate", GENERATE, read_generate, NDJSON),
        AnswerRoute("GET", "/api/tags", tags),
        AnswerRoute("POST", "/api/show", show, SHOW),
        AnswerRoute("GET", "/api/ps", ps),
        AnswerRoute("GET", "/api/version", version),
        AnswerRoute("POST", "/api/embed", embed.embed, EMBED, computes=True),
        AnswerRoute("POST", "/api/embeddings", embed.embeddings, EMBEDDINGS, computes=True),
        *(_refused(f"/api/{name}", _OWN_MODELS) for name in ("pull", "push", "create", "copy")),
        _refused("/api/delete", _OWN_MODELS, "DELETE"),
    ),
    body_of,
    prefixes=("",),
)
