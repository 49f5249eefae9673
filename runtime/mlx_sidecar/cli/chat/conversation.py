"""The turns of a conversation: what is sent, taken back, left out, kept in a file. Pure, but for that file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..failures import Refused
from .text_file import read_text

Message = dict[str, Any]


@dataclass
class Conversation:
    """The messages so far: perhaps one of the system, then turns of user and assistant, with calls and their results.

    ``attached`` are texts that go with the next question, by name. ``used_tokens`` is the size of the conversation as
    the sidecar last counted it.
    """

    messages: list[Message] = field(default_factory=list)
    attached: list[tuple[str, str]] = field(default_factory=list)
    used_tokens: int = 0

    @property
    def system(self) -> str | None:
        return self.messages[0]["content"] if self.messages and self.messages[0]["role"] == "system" else None

    @system.setter
    def system(self, text: str | None) -> None:
        turns = self.messages[self._first :]
        self.messages = [{"role": "system", "content": text}, *turns] if text else turns

    @property
    def turns(self) -> int:
        """The number of questions."""
        return sum(message["role"] == "user" for message in self.messages)

    def clear(self) -> None:
        """Forget all but the system's message."""
        del self.messages[self._first :]
        self.attached.clear()
        self.used_tokens = 0

    def ask(self, text: str) -> None:
        """Add a question, behind the texts that are attached to it."""
        parts = [f"{name}:\n```\n{content.rstrip()}\n```" for name, content in self.attached]
        self.attached.clear()
        self.messages.append({"role": "user", "content": "\n\n".join([*parts, text])})

    def answer(self, text: str, reasoning: str | None = None, calls: Sequence[dict[str, str]] = ()) -> None:
        """Add an answer, of which ``calls`` are to be given their results by ``told``."""
        message: Message = {"role": "assistant", "content": text}
        if reasoning:
            message["reasoning_content"] = reasoning
        if calls:
            message["tool_calls"] = [
                {"id": call["id"], "type": "function", "function": {key: call[key] for key in ("name", "arguments")}}
                for call in calls
            ]
        self.messages.append(message)

    def told(self, call: dict[str, str], content: str) -> None:
        """Add the result of a call."""
        self.messages.append({"role": "tool", "tool_call_id": call["id"], "name": call["name"], "content": content})

    def take_back(self, *, question: bool) -> None:
        """Remove all that follows the last question; the question as well, if that is to go."""
        last = max(at for at, message in enumerate(self.messages) if message["role"] == "user")
        del self.messages[last if question else last + 1 :]

    def without_oldest(self, turns: int) -> list[Message]:
        """The messages without the oldest ``turns``, of which the last question is never one."""
        questions = [at for at, message in enumerate(self.messages) if message["role"] == "user"]
        cut = questions[min(turns, len(questions) - 1)] if questions else self._first
        return [*self.messages[: self._first], *self.messages[cut:]]

    @property
    def _first(self) -> int:
        """The place of the first turn."""
        return int(bool(self.messages) and self.messages[0]["role"] == "system")


def write(path: Path, model: str, conversation: Conversation, parameters: dict[str, Any]) -> None:
    """Write a conversation as JSON. Raises ``Refused`` where that cannot be done, or a file is there already."""
    saved = {"model": model, "parameters": parameters, "messages": conversation.messages}
    try:
        with path.open("x", encoding="utf-8") as file:
            json.dump(saved, file, ensure_ascii=False, indent=1)
            file.write("\n")
    except FileExistsError:
        raise Refused(f"{path} is there already") from None
    except OSError as error:
        raise Refused(f"{path} cannot be written: {error.strerror}") from error


def read(path: Path) -> list[Message]:
    """The messages of a file of ``write``. Raises ``Refused`` with what is wrong with it."""
    try:
        saved = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise Refused(f"{path} is no JSON: {error}") from error
    messages = saved.get("messages") if isinstance(saved, dict) else None
    if not (isinstance(messages, list) and all(_is_message(each) for each in messages)):
        raise Refused(f"{path} holds no conversation: a list of messages, each with a role and a content")
    return messages


def _is_message(message: object) -> bool:
    return (
        isinstance(message, dict)
        and message.get("role") in ("system", "user", "assistant", "tool")
        and isinstance(message.get("content"), str)
    )
