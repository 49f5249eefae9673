"""The routes of Anthropic's clients."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

import orjson

from ..allowance import anthropic_headers
from ..faults import Fault, Refused
from ..members import Members
from ..places import placed
from ..reasoning import without_reasoning
from ..surface import AnswerRoute, Backend, GenerateRoute, Generation, Offer, Question, Surface
from .answer import Asked, MessageEncoder
from .faults import STATUSES, body_of
from .parameters import COUNT_TOKENS, MESSAGES
from .request import NAMES, omits_reasoning, options_of, prompt_of, switches_off, way_of


def read(question: Question) -> Generation:
    """The generation that a message is."""
    options = options_of(question)
    asked = Asked(question.id, question.model, options["max_tokens"], omits_reasoning(question.body), "stop" in options)
    stream = Members(question.body, "").boolean("stream", False)
    prepare = without_reasoning if switches_off(question.body) else None
    encoder, way = partial(MessageEncoder, asked), partial(way_of, question)
    return Generation(options, stream, encoder, asked.whole, NAMES, prepare, way_of=way)


async def count_tokens(backend: Backend, question: Question) -> bytes:
    """The length of the prompt that the same message would be answered from."""
    prompt = prompt_of(question)
    model = await backend.resolve(question.model)
    with placed(partial(way_of, question)):
        rendered = await backend.sidecar.render(model, **prompt)
    return orjson.dumps({"input_tokens": len(rendered.tokens)})


async def models(backend: Backend, _: Question) -> bytes:
    """All models, on one page."""
    listed = [_model(offer) for offer in await backend.offers()]
    ends = {"first_id": listed[0]["id"] if listed else None, "last_id": listed[-1]["id"] if listed else None}
    return orjson.dumps({"data": listed, "has_more": False, **ends})


async def model(backend: Backend, question: Question) -> bytes:
    """One model."""
    name = question.path["model"]
    offer = _named(name, await backend.offers())
    return orjson.dumps(_model(offer))


def _named(name: str, offers: Sequence[Offer]) -> Offer:
    for offer in offers:
        if offer.name == name:
            return offer
    raise Refused(Fault(404, "model_not_found", f"there is no model {name!r}", param="model"))


def _model(offer: Offer) -> dict[str, Any]:
    created = datetime.fromtimestamp(offer.created, UTC).isoformat().replace("+00:00", "Z")
    return {
        "type": "model",
        "id": offer.name,
        "display_name": offer.name,
        "created_at": created,
        "lifecycle": "active",
    }


SURFACE: Final = Surface(
    "anthropic",
    (
        GenerateRoute("/messages", MESSAGES, read),
        AnswerRoute("POST", "/messages/count_tokens", count_tokens, COUNT_TOKENS, NAMES),
        AnswerRoute("GET", "/models", models),
        AnswerRoute("GET", "/models/{model:path}", model),
    ),
    body_of,
    header="anthropic-version",
    statuses=STATUSES,
    allowances=anthropic_headers,
)
