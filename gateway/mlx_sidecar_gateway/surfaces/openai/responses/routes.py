"""The routes of ``responses``: making one, and what can be asked of those that are kept."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import orjson

from ...faults import Fault, Refused
from ...kept import Kept
from ...members import Members
from ...parameters import Harmless, Parameters
from ...places import placed
from ...surface import AnswerRoute, Backend, GenerateRoute, Question, Route
from .conversation import Conversation, close_sessions
from .parameters import INPUT_TOKENS, RESPONSES
from .request import asked_of, read
from .tools import tools_of

_STREAMED: Final = Harmless("nothing is streamed again", only=("false",))

RETRIEVE: Final = Parameters(
    frozenset(),
    harmless={"include_obfuscation": _STREAMED, "stream": _STREAMED},
    refused={
        "include": "a response has what its own request asked for",
        "starting_after": "nothing is streamed again",
    },
)
INPUT_ITEMS: Final = Parameters(
    frozenset({"after", "limit", "order"}), refused={"include": "items are listed as they came"}
)

_MOST_ITEMS: Final = 100


async def retrieve(backend: Backend, question: Question) -> bytes:
    """A response that is kept."""
    _checked(question, RETRIEVE)
    return _kept(backend, question).body


async def delete(backend: Backend, question: Question) -> bytes:
    """Forget a response. Those that continue it stay."""
    kept = _kept(backend, question)
    backend.kept.remove(kept.id)
    await close_sessions(backend)
    return orjson.dumps({"id": kept.id, "object": "response", "deleted": True})


async def input_items(backend: Backend, question: Question) -> bytes:
    """The items of a response's own input, those of the ones before it not among them."""
    query = _checked(question, INPUT_ITEMS)
    items: list[dict[str, Any]] = orjson.loads(_kept(backend, question).items)
    if query.get("order", "desc") not in ("asc", "desc"):
        raise Refused.parameter("order", "must be asc or desc")
    if query.get("order", "desc") == "desc":
        items.reverse()
    ids = [item["id"] for item in items]
    if (after := query.get("after")) is not None:
        if after not in ids:
            raise Refused.parameter("after", f"the input has no item {after!r}")
        items = items[ids.index(after) + 1 :]
    page = items[: _limit(query)]
    ends = {"first_id": page[0]["id"] if page else None, "last_id": page[-1]["id"] if page else None}
    return orjson.dumps({"object": "list", "data": page, **ends, "has_more": len(page) < len(items)})


async def input_tokens(backend: Backend, question: Question) -> bytes:
    """The length of the prompt that the same request for a response would be answered from."""
    conversation = Conversation(asked_of(question, tools_of(Members(question.body, "")), store=False))
    model = await backend.resolve(question.model)
    prompt = await conversation.prepare(backend, model)
    with placed(conversation.way_of):
        rendered = await backend.sidecar.render(model, **prompt)
    return orjson.dumps({"object": "response.input_tokens", "input_tokens": len(rendered.tokens)})


def _limit(query: Mapping[str, str]) -> int:
    limit = query.get("limit", "20")
    if not limit.isdecimal() or not 1 <= int(limit) <= _MOST_ITEMS:
        raise Refused.parameter("limit", f"must be a number from 1 to {_MOST_ITEMS}")
    return int(limit)


def _checked(question: Question, parameters: Parameters) -> Mapping[str, str]:
    """The parameters behind the path, of which lists have brackets in their names."""
    query = {name.partition("[")[0]: value for name, value in question.query.items()}
    parameters.ignored(query, strict=False)
    return query


def _kept(backend: Backend, question: Question) -> Kept:
    id_ = question.path["response"]
    if (kept := backend.kept.get(id_, question.caller)) is None:
        message = f"Response with id {id_!r} not found: it was never kept, or it was deleted or has expired."
        raise Refused(Fault(404, "response_not_found", message))
    return kept


def _refusal(because: str) -> Callable[[Backend, Question], Awaitable[bytes]]:
    async def refuse(_backend: Backend, _question: Question) -> bytes:
        raise Refused(Fault(404, "not_served", because))

    return refuse


ROUTES: Final[tuple[Route, ...]] = (
    GenerateRoute("/responses", RESPONSES, read),
    # Before the path of any response, which these fit as well.
    AnswerRoute("POST", "/responses/compact", _refusal("conversations are not compacted here")),
    AnswerRoute("POST", "/responses/input_tokens", input_tokens, INPUT_TOKENS),
    AnswerRoute("GET", "/responses/{response}", retrieve),
    AnswerRoute("DELETE", "/responses/{response}", delete),
    AnswerRoute("GET", "/responses/{response}/input_items", input_items),
    AnswerRoute(
        "POST",
        "/responses/{response}/cancel",
        _refusal("only background responses are cancelled, and there are none: a client that leaves ends its response"),
    ),
)
