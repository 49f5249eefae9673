"""Parameters and results of the ``session/*`` methods, by which a host holds a chat and its branches by a handle."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from .cache import FilePath
from .generate import FinishReason, Message, SessionId, TurnId
from .model import Count, FirstFault, ModelName, NullIs, Received, Seconds, Sent


class SessionOpenParams(Received):
    """A new chat with a model, and what all its turns share."""

    model: ModelName
    messages: Annotated[list[Message], FirstFault()] | None = Field(
        default=None, description="those that the chat begins with, e.g. the system message"
    )
    tools: list[dict[str, Any]] | None = None
    template_args: dict[str, Any] | None = None
    ttl_s: Annotated[float, Field(gt=0)] | None = Field(
        default=None, description="close it after this long without use; without it: never"
    )


class SessionResult(Sent):
    """A session, and the turn that its next request continues."""

    session: SessionId
    turn: TurnId


class OfSession(Received):
    session: SessionId


class SessionForkParams(OfSession):
    """The turn that the new session continues, by default the latest one."""

    at: TurnId | None = None


class SessionRollbackParams(OfSession):
    """The turn to go back to. ``dry_run``: only tell what would be removed."""

    to: TurnId
    dry_run: Annotated[bool, NullIs(False)] = False


class SessionRollbackResult(SessionResult):
    """The turns behind it, which are removed, or with ``dry_run`` would be."""

    removed: list[TurnId]


class SessionTurn(Sent):
    """One turn: the messages of its request, and the answer. The first turn of a session has no answer."""

    turn: TurnId
    parent: TurnId | None = None
    messages: list[dict[str, Any]]
    answer: dict[str, Any] | None = Field(default=None, description="the assistant message of its answer")
    finish_reason: FinishReason | None = None
    prompt_tokens: Count = Field(description="0 in the first turn of a session")
    completion_tokens: Count
    dropped_messages: Count | None = Field(
        default=None, description="of the chat until here, those that its prompt lacks; absent if there are none"
    )


class SessionGetResult(SessionResult):
    """A session with all its turns, parents before children. ``nbytes`` is the memory that its own turns take."""

    model: str
    tools: list[dict[str, Any]] | None = None
    template_args: dict[str, Any] | None = None
    ttl_s: Seconds | None = None
    nbytes: Count
    turns: list[SessionTurn]


class SessionExportParams(OfSession):
    """A session, and the file that it is written to; an existing file is replaced."""

    path: FilePath


class SessionImportParams(Received):
    """A file of ``session/export``. ``model``: a model of the same vocabulary, instead of the one named in the file."""

    path: FilePath
    model: ModelName | None = None
    ttl_s: Annotated[float, Field(gt=0)] | None = Field(
        default=None, description="close it after this long without use; without it: never"
    )


class SessionFileResult(SessionResult):
    """The turns of the session, and the size of the file in bytes."""

    turns: Count
    nbytes: Count
