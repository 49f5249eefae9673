"""The conversation that a response belongs to: its prompt, and what is kept of it in the sidecar's sessions.

Each response that is kept has a session of its own, which ends with its turn. A request that continues it forks that
session, so that all branches share what came before, nothing of it is computed again, and each can be forgotten alone.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from mlx_sidecar_client import GenerateResult, RpcError, SidecarLost
from mlx_sidecar_client.protocol.errors import Overloaded, UnknownSession, UnsupportedParameter

from ...faults import Fault, Refused
from ...kept import Kept, KeptResponses, Setting
from ...members import Members
from ...places import Place, way_of
from ...surface import Backend
from .items import Chat, Piece, Referenced, Said, leading, piece_of, system_message

_CLOSE_S: Final = 1.0  # while which a client's connection waits
_ITEM_ID: Final = re.compile(r"(?:msg|rs|fc)_([0-9a-f]{32})_[0-9]+")


@dataclass(frozen=True)
class Asked:
    """The part of a request that concerns its conversation.

    previous: The id of the response that it continues.
    items: Its input as a list of items, for ``input_items``.
    """

    response_id: str
    previous: str | None
    pieces: Sequence[Piece]
    items: Sequence[Mapping[str, Any]]
    instructions: str | None
    tools: list[dict[str, Any]]
    template_args: dict[str, Any]
    store: bool
    caller: str = ""


@dataclass
class Conversation:
    """One request's part in its conversation: ``prepare``, then perhaps ``keep``, and ``settle`` in any case."""

    asked: Asked
    _kept: KeptResponses | None = None
    _setting: Setting | None = None
    _session: str | None = None
    _lead: tuple[str, ...] = ()
    _names: Mapping[str, str] = field(default_factory=dict)
    _chat: list[dict[str, Any]] | None = None  # where no session has it
    _places: Sequence[Place] = ()
    _before: int = 0  # messages that the sidecar was given before those of the input

    async def prepare(self, backend: Backend, model: str) -> dict[str, Any]:
        """The options that make the prompt. Raises ``Refused``, and as ``Sidecar.request``.

        It may be asked again, for the next engine, where one did not begin to answer.
        """
        asked, kept = self.asked, backend.kept
        if self._session is not None:
            kept.leave(self._session)
        self._session, self._chat = None, None
        previous = _previous(asked, kept)
        pieces = [found for piece in asked.pieces for found in _resolved(piece, kept, asked.caller)]
        first = 0 if previous else leading(pieces)
        self._lead = previous.lead if previous else _texts(pieces[:first])
        chat = Chat(previous.names if previous else {})
        chat.extend(pieces[first:])
        system = system_message([*([asked.instructions] if asked.instructions else []), *self._lead])
        self._places, self._before = chat.places, len(system)
        if previous is None and not asked.store:
            return {"messages": [*system, *chat.messages], **_given(asked)}
        self._kept, self._names = kept, chat.names
        self._setting = Setting(model, asked.instructions, asked.tools, asked.template_args)
        if backend.engine != "local":
            self._chat = [*_chat_of(previous), *chat.messages]
            if previous is not None:
                kept.used(previous)
            self._before += len(self._chat) - len(chat.messages)
            return {"messages": [*system, *self._chat], **_given(asked)}
        self._places = ()  # a session is begun with other messages
        self._session = await self._begun(backend, previous, system)
        self._places, self._before = chat.places, 0
        return {"session": self._session, "messages": chat.messages}

    def way_of(self, path: Sequence[str]) -> str | None:
        """The client's way to the sidecar's ``path``, if that leads into messages, of which ``prepare`` gave some."""
        return way_of(path, self._places, "instructions" if self.asked.instructions else "input", before=self._before)

    def keep(self, result: GenerateResult, body: bytes) -> None:
        """Keep the response, if it is to be kept and its turn was added."""
        if not self.asked.store or (result.turn is None and self._chat is None):
            return
        assert self._kept is not None
        assert self._setting is not None
        assert self._session is not None or self._chat is not None
        called = {call.id: call.name for call in result.tool_calls or ()}
        kept = Kept(
            id=self.asked.response_id,
            body=body,
            items=orjson.dumps(self.asked.items),
            session=self._session or "",
            turn=result.turn or "",
            setting=self._setting,
            lead=self._lead,
            names={**self._names, **called},
            owner=self.asked.caller,
            chat=b"" if self._chat is None else orjson.dumps([*self._chat, _answer(result)]),
        )
        self._session = None
        self._kept.add(kept)

    async def settle(self, backend: Backend) -> None:
        """Close the session, unless its response is kept, and those of responses that went."""
        if self._session is not None:
            backend.kept.leave(self._session)
        await close_sessions(backend)

    async def _begun(self, backend: Backend, previous: Kept | None, system: list[dict[str, Any]]) -> str:
        """The session of this request, which goes on from the previous response."""
        assert self._setting is not None
        if (sessions_bytes := (await backend.sidecar.server()).limits.sessions_bytes) is not None:
            backend.kept.fit(sessions_bytes)
        try:
            if previous is not None and previous.session and previous.setting == self._setting:
                backend.kept.used(previous)
                return await _session(backend, "session/fork", {"session": previous.session, "at": previous.turn})
            history = [] if previous is None else await _history(backend, previous)
        except UnknownSession:  # the sidecar was started again, and knows no session of before
            assert previous is not None
            backend.kept.remove(previous.id)
            raise _not_found(previous.id) from None
        opened = {"model": self._setting.model, "messages": [*system, *history], "ttl_s": backend.kept.ttl_s}
        return await _session(backend, "session/open", {**opened, **_given(self.asked)})


async def close_sessions(backend: Backend) -> None:
    """Close the sessions of responses that are kept no more."""
    with suppress(TimeoutError):
        async with asyncio.timeout(_CLOSE_S):
            for session in backend.kept.take_sessions():
                # A session that cannot be closed is gone, or goes when its time is over.
                with suppress(RpcError, SidecarLost):
                    await backend.sidecar.request("session/close", {"session": session})


def _chat_of(previous: Kept | None) -> list[dict[str, Any]]:
    """The chat until a response and its answer, for an engine without sessions. Raises ``UnsupportedParameter``."""
    if previous is None:
        return []
    if not previous.chat:
        because = "the response was made by the gateway's own sidecar, which has its chat"
        raise UnsupportedParameter("previous_response_id", because)
    chat: list[dict[str, Any]] = orjson.loads(previous.chat)
    return chat


def _answer(result: GenerateResult) -> dict[str, Any]:
    """The answer as a message of the chat."""
    message: dict[str, Any] = {"role": "assistant", "content": result.text or None}
    if result.reasoning:
        message["reasoning_content"] = result.reasoning
    if calls := result.tool_calls:
        message["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in calls
        ]
    return message


def _given(asked: Asked) -> dict[str, Any]:
    """Tools and variables of the template, where there are any."""
    given = {"tools": asked.tools, "template_args": asked.template_args}
    return {name: value for name, value in given.items() if value}


def _texts(pieces: Sequence[Piece]) -> tuple[str, ...]:
    return tuple(text for piece in pieces if isinstance(piece, Said) for text in piece.texts)


def _previous(asked: Asked, kept: KeptResponses) -> Kept | None:
    if asked.previous is None:
        return None
    if (previous := kept.get(asked.previous, asked.caller)) is None:
        raise _not_found(asked.previous)
    return previous


def _not_found(id_: str) -> Refused:
    message = f"Previous response with id {id_!r} not found: it was never kept, or it was deleted or has expired."
    return Refused(Fault(400, "previous_response_not_found", message, param="previous_response_id"))


def _resolved(piece: Piece, kept: KeptResponses, caller: str) -> list[Piece]:
    """The piece itself, or the one that it refers to."""
    if not isinstance(piece, Referenced):
        return [piece]
    match = _ITEM_ID.fullmatch(piece.id)
    response = kept.get(f"resp_{match[1]}", caller) if match else None
    for item in orjson.loads(response.body)["output"] if response else ():
        if item["id"] == piece.id:
            return [piece_of(Members(item, piece.place))]
    raise Refused.parameter(f"{piece.place}.id", f"no response that is kept has an item {piece.id!r} in its output")


async def _session(backend: Backend, method: str, params: Mapping[str, Any]) -> str:
    """A new session; where there are too many, responses are forgotten for it."""
    while True:
        try:
            session: str = (await backend.sidecar.request(method, params))["session"]
        except Overloaded:
            if not backend.kept.drop_oldest():
                raise
            await close_sessions(backend)
        else:
            return session


async def _history(backend: Backend, previous: Kept) -> list[dict[str, Any]]:
    """The messages of the chat until ``previous`` and its answer, without the system message that it began with."""
    if previous.chat:
        backend.kept.used(previous)
        return _chat_of(previous)
    first, *turns = (await backend.sidecar.request("session/get", {"session": previous.session}))["turns"]
    messages = first["messages"]
    begins_with_system = bool(previous.setting.instructions or previous.lead)
    history: list[dict[str, Any]] = messages[1:] if begins_with_system else messages
    for turn in turns:
        history += [*turn["messages"], turn["answer"]]
    return history
