"""The loop of a conversation: reads a line, carries a command out or has a question answered."""

from __future__ import annotations

import argparse
import os
import sys
from typing import Any

from ...host import Frame, Host, SidecarError
from ..failures import Refused
from ..model_arguments import load_params
from ..sampling import sampling
from ..standard_streams import text_of
from ..terminal import complain, figures, load, note
from .answering import AnswerScreen
from .commands import command_of, completions
from .conversation import Conversation
from .reading import PipeReader, Reader
from .typing_ahead import mark_pastes

_ROOM = 4  # a part of the context, one in so many, that dropped turns leave free at least


def converse(host: Host, args: argparse.Namespace) -> int:
    """Hold a conversation until the end of input; returns the exit status."""
    chat = Chat(host, load_params(args), sampling(args))
    chat.conversation.system = None if args.system is None else text_of(args.system)
    chat.run()
    return 0


class Chat:
    """A conversation with the model of ``how``, the parameters of ``load``; ``parameters`` are those of ``generate``.

    ``card`` is the model's, ``last`` the last result.
    """

    def __init__(self, host: Host, how: dict[str, Any], parameters: dict[str, Any]) -> None:
        self.host, self.parameters = host, parameters
        self.conversation = Conversation()
        self.last: Frame | None = None
        self.over = False
        self._screen = AnswerScreen()
        self._how = how
        self.card = load(host, how)

    @property
    def model(self) -> str:
        return str(self._how["model"])

    def load(self, model: str) -> None:
        """Go on with another model. Raises ``SidecarError``; then the model is the one of before."""
        how = {"model": model}
        self.card, self._how = load(self.host, how), how

    def run(self) -> None:
        """Take lines until there are no more. Ctrl-C never ends this."""
        reader = self._reader = self._open_reader()
        while not self.over and (line := reader.ask()) is not None:
            try:
                self._take(line)
            except (SidecarError, Refused) as error:
                complain(str(error))
            except KeyboardInterrupt:  # in a command, or twice in an answer
                note("interrupted")

    def respond(self) -> bool:
        """Have the last question answered; returns whether the conversation now has an answer to it.

        Raises ``SidecarError``, where the sidecar refused it.
        """
        try:
            result = self._screen.stream(self.host, self._request(self.conversation.messages))
        except SidecarError as error:
            if not self._fits_after_dropping(error):
                raise
            result = self._screen.stream(self.host, self._request(self.conversation.messages))
        self._note_end(result)
        if not result["text"] and result["finish_reason"] in ("cancelled", "error"):
            return False
        self.conversation.answer(result["text"])
        usage = result["usage"]
        self.conversation.used_tokens = usage["prompt_tokens"] + usage["completion_tokens"]
        return True

    def _open_reader(self) -> Reader:
        drawable = sys.stdout.isatty() or (sys.stderr.isatty() and os.environ.get("TERM") != "dumb")
        if not (sys.stdin.isatty() and drawable):
            return PipeReader()
        from .line_editor import LineEditor

        mark_pastes()
        note(f"{self.model}: /help lists commands, Ctrl-C ends an answer, Ctrl-D the conversation.")
        return LineEditor(completions(self._models), self._status)

    def _take(self, line: str) -> None:
        if not line.strip():
            return
        if (found := command_of(line)) is not None:
            command, argument = found
            command.run(self, argument)
            return
        attached = list(self.conversation.attached)
        self.conversation.ask(line)
        answered = False
        try:
            answered = self.respond()
        finally:
            if not answered:  # as if it had not been asked; the line is in the history
                self.conversation.take_back("user")
                self.conversation.attached = attached

    def _request(self, messages: list[dict[str, Any]]) -> dict[str, Any]:
        return {"model": self.model, "messages": messages, **self.parameters}

    def _note_end(self, result: Frame) -> None:
        self.last = result
        note(figures(result))
        for warning in result.get("warnings", ()):
            note(f"warning: {warning['message']}")
        if "error" in result:
            complain(result["error"]["message"])
        usage, limit = result["usage"], self.card.get("context_length")
        if result["finish_reason"] == "length" and usage["prompt_tokens"] + usage["completion_tokens"] == limit:
            note("the context is full; with the next question the oldest turns can be dropped")

    def _fits_after_dropping(self, error: SidecarError) -> bool:
        """Whether the oldest turns were dropped, after a yes, so that the question fits which was too long."""
        if error.data.get("kind") != "context_too_long" or self.conversation.turns < 2:
            return False
        have, limit = error.data["have"], error.data["limit"]
        if not self._reader.confirm(f"{have:,} tokens, and the context has {limit:,}. Drop the oldest turns?"):
            return False
        room = min(self.parameters.get("max_tokens", limit), limit // _ROOM)
        for turns in range(1, self.conversation.turns):
            messages = self.conversation.without_oldest(turns)
            if (tokens := self._tokens(messages)) + room <= limit or turns == self.conversation.turns - 1:
                self.conversation.messages = messages
                note(f"{turns} turns dropped; {tokens:,} of {limit:,} tokens are left")
                return True
        return False

    def _tokens(self, messages: list[dict[str, Any]]) -> int:
        template = {name: self.parameters[name] for name in ("template_args",) if name in self.parameters}
        return len(self.host.call("render", {"model": self.model, "messages": messages, **template})["tokens"])

    def _models(self) -> list[str]:
        return [model["name"] for model in self.host.call("local/list")["models"]]

    def _status(self) -> str:
        used, limit = self.conversation.used_tokens, self.card.get("context_length")
        return f"{used:,}{f' of {limit:,}' if limit else ''} tokens · /help · {self.model}"
