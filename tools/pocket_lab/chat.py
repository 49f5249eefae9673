"""Documents of the corpus, chats or plain text, and held-out questions with their expected answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

Message = dict[str, Any]


@dataclass(frozen=True)
class Chat:
    """A conversation to be rendered with the chat template; the assistant's turns are learned."""

    messages: tuple[Message, ...]
    tools: tuple[dict[str, Any], ...] = ()
    thinking: bool | None = None  # the template's `enable_thinking`; None leaves it undefined

    def said(self) -> list[str]:
        """The contents of the users' and tools' turns."""
        return [message["content"] for message in self.messages if message["role"] in ("user", "tool")]


@dataclass(frozen=True)
class Plain:
    """Text without a template, learned from its first token on and ended by `<|endoftext|>`."""

    text: str


Document = Chat | Plain


@dataclass(frozen=True)
class Probe:
    """A held-out question, whose answer must hold every word of `expect`, or be exactly `exact`."""

    room: str
    chat: Chat
    expect: tuple[str, ...] = ()
    exact: str | None = None
    answer: str = field(default="", compare=False)  # the reference answer, for the held-out loss

    def passes(self, answer: str) -> bool:
        """Whether `answer` (without its end-of-turn token) is right."""
        if self.exact is not None:
            return answer.strip() == self.exact
        return all(word.lower() in answer.lower() for word in self.expect)


def turn(role: str, content: str) -> Message:
    """A message with text."""
    return {"role": role, "content": content}


def exchange(question: str, answer: str) -> tuple[Message, Message]:
    """A question and its answer."""
    return turn("user", question), turn("assistant", answer)
