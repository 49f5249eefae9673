"""A chat that the sidecar holds: each request brings the new messages alone, and any turn can be gone back to."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, TypedDict, Unpack

from .parameters import AnswerOptions, ToolChoice, ToolLike, on_the_wire
from .protocol.sessions import SessionGetResult
from .stream import Stream

if TYPE_CHECKING:
    from .sidecar import Sidecar


class SessionOptions(TypedDict, total=False):
    """Parameters of ``session/open``, except ``model``. ``tools`` as in ``generate``."""

    messages: Sequence[Mapping[str, Any]] | None
    tools: Sequence[ToolLike] | None
    template_args: Mapping[str, Any] | None
    ttl_s: float | None


class TurnOptions(AnswerOptions, total=False):
    """Parameters of a turn, except its messages."""

    at: str | None
    render: Literal["turns", "template"] | None
    echo_text: bool | None
    escape_special: bool | None
    output: Literal["parsed", "raw"] | None
    tool_choice: ToolChoice | None
    response_format: Mapping[str, Any] | None


class Session:
    """Made by ``open``, ``read`` or ``fork``. It is gone with the process of the sidecar: then ``unknown_session``."""

    def __init__(self, sidecar: Sidecar, id_: str, model: str) -> None:
        self.id = id_
        self.model = model
        self._sidecar = sidecar

    @classmethod
    async def open(cls, sidecar: Sidecar, model: str, **options: Unpack[SessionOptions]) -> Self:
        """A new chat with ``model``.

        Args:
            sidecar: The one that holds the chat.
            model: ``pocket``, a directory, or a hub id.
            options: The keys of ``SessionOptions``.
        """
        opened = await sidecar.request("session/open", on_the_wire({"model": model, **options}))
        return cls(sidecar, opened["session"], model)

    @classmethod
    async def read(cls, sidecar: Sidecar, path: str | os.PathLike[str], **options: Any) -> Self:
        """The chat in a file that ``write`` made; ``options`` are ``model`` and ``ttl_s``.

        Args:
            sidecar: The one that holds the chat.
            path: A file of ``write``.
            options: ``model`` if it is to be another one, and ``ttl_s``.
        """
        read = await sidecar.request("session/import", {"path": str(Path(path).absolute()), **options})
        session = cls(sidecar, read["session"], "")
        session.model = (await session.get()).model
        return session

    def generate(self, messages: Sequence[Mapping[str, Any]], **options: Unpack[TurnOptions]) -> Stream[Any]:
        """Answer the new ``messages``, behind the latest turn or the one ``at``; as ``Sidecar.generate``.

        Args:
            messages: Those that the chat does not have yet.
            options: ``at``, the turn to go on from, and the other keys of ``TurnOptions``.
        """
        given: Any = {"session": self.id, "messages": messages, **options}
        return self._sidecar.generate(self.model, **given)

    async def fork(self, at: str | None = None) -> Session:
        """Another session that goes on from the latest turn or the one ``at``.

        Args:
            at: The turn to go on from; None for the latest.
        """
        forked = await self._sidecar.request("session/fork", {"session": self.id, "at": at})
        return Session(self._sidecar, forked["session"], self.model)

    async def roll_back(self, to: str, *, dry_run: bool = False) -> list[str]:
        """Remove the turns behind ``to``, or only tell which these are.

        Args:
            to: The turn that is the last one afterwards.
            dry_run: Whether nothing is removed.
        """
        asked = {"session": self.id, "to": to, "dry_run": dry_run}
        removed: list[str] = (await self._sidecar.request("session/rollback", asked))["removed"]
        return removed

    async def get(self) -> SessionGetResult:
        """All turns, with their messages."""
        told = await self._sidecar.request("session/get", {"session": self.id})
        return SessionGetResult.model_validate(told, extra="ignore")

    async def write(self, path: str | os.PathLike[str]) -> None:
        """Write it to a file, without keys and values.

        Args:
            path: The file to write.
        """
        await self._sidecar.request("session/export", {"session": self.id, "path": str(Path(path).absolute())})

    async def close(self) -> None:
        """Have the sidecar forget it."""
        await self._sidecar.request("session/close", {"session": self.id})
