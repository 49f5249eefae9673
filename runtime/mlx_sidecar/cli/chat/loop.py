"""The loop of a conversation: reads a line, carries a command out or has a question answered."""

from __future__ import annotations

import argparse
import os
import sys
from bisect import bisect_left
from typing import Any

from mlx_sidecar_protocol.functions import Tool

from ... import __version__
from ...host import Frame, Host, SidecarError, SidecarGone
from ..failures import Refused
from ..model_arguments import load_params
from ..sampling import sampling
from ..standard_streams import text_of
from ..terminal import complain, counted, figures, load, note, warnings_of
from .answering import AnswerScreen
from .commands import command_of, completions
from .conversation import Conversation
from .reading import PipeReader, Reader
from .tool_file import result_of, tools_of
from .typing_ahead import mark_pastes

_INITIALIZE = {"protocol_version": 1, "client": {"name": "mlx-sidecar chat", "version": __version__}}
_MOST_ROUNDS = 16  # answers to one question that are calls
_ROOM = 4  # a part of the context, one in so many, that dropped turns leave free at least


def converse(host: Host, args: argparse.Namespace) -> int:
    """Hold a conversation until the end of input; returns the exit status."""
    tools = {} if args.tools is None else tools_of(args.tools)
    chat = Chat(host, load_params(args), sampling(args), tools, asks=not args.yes_tools)
    chat.conversation.system = None if args.system is None else text_of(args.system)
    chat.run()
    return 0


class Chat:
    """A conversation with the model of ``how``, the parameters of ``load``; ``parameters`` are those of ``generate``.

    ``card`` is the model's, ``last`` the last result. The model may call ``tools``; ``asks``: if the person agrees.
    """

    def __init__(
        self, host: Host, how: dict[str, Any], parameters: dict[str, Any], tools: dict[str, Tool], *, asks: bool
    ) -> None:
        self.host, self.parameters = host, parameters
        self.tools, self._asks = tools, asks
        self.conversation = Conversation()
        self.last: Frame | None = None
        self.over = False
        self._screen = AnswerScreen()
        self._how = how
        # From now on what the sidecar logs is a notification, and cannot fall into the middle of what is drawn.
        self._logged: list[str] = []
        host.on_notification = self._hear
        host.call("initialize", _INITIALIZE)
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
            except SidecarGone as error:
                if isinstance(reader, PipeReader):
                    raise
                complain(f"{error}. What was said can still be saved, with /save PATH")
            except KeyboardInterrupt:  # in a command, or twice in an answer
                note("interrupted")
            for told in self._logged:
                note(told)
            self._logged.clear()

    def respond(self) -> bool:
        """Have the last question answered, and run the calls of answers until one has none.

        Returns whether the conversation now has an answer. Raises ``SidecarError``, where the sidecar refused it.
        """
        for _ in range(_MOST_ROUNDS):
            result = self._answered()
            self._note_end(result)
            if not result["text"] and result["finish_reason"] in ("cancelled", "error"):
                return False
            calls = result.get("tool_calls", []) if result["finish_reason"] == "tool_calls" else []
            self.conversation.answer(result["text"], result.get("reasoning"), calls)
            usage = result["usage"]
            self.conversation.used_tokens = usage["prompt_tokens"] + usage["completion_tokens"]
            if not calls:
                return True
            for call in calls:
                self.conversation.told(call, self._run(call))
        note(f"{_MOST_ROUNDS} answers in a row were calls: say how to go on")
        return True

    def _answered(self) -> Frame:
        try:
            return self._screen.stream(self.host, self._request(self.conversation.messages))
        except SidecarError as error:
            if not self._fits_after_dropping(error):
                raise
            return self._screen.stream(self.host, self._request(self.conversation.messages))

    def _run(self, call: dict[str, str]) -> str:
        """Show a call, and run it unless the person declines; returns the result that the model is told."""
        note(f"calls {call['name']}({call['arguments']})")
        if self._asks and not self._reader.confirm("run it?", default=False):
            note("not run")
            return "error: the user does not want this call"
        content = result_of(self.tools, call)
        note(f"{call['name']}: {content}")
        return content

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
                self.conversation.take_back(question=True)
                self.conversation.attached = attached

    def _hear(self, method: str, told: Frame) -> None:
        if method == "log" and told["level"] in ("warning", "error"):
            self._logged.append(f"{told['level']}: {told['message']}")

    def _request(self, messages: list[dict[str, Any]]) -> dict[str, Any]:
        return {"model": self.model, "messages": messages, **self._described(), **self.parameters}

    def _described(self) -> dict[str, Any]:
        return {"tools": [tool.to_plain() for tool in self.tools.values()]} if self.tools else {}

    def _note_end(self, result: Frame) -> None:
        self.last = result
        note(figures(result))
        for warning in warnings_of(result):
            note(f"warning: {warning}")
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
        most = self.conversation.turns - 1
        if self._tokens_without(most) > limit:  # the question alone is too long, and the turns are kept
            return False
        if not self._reader.confirm(f"{have:,} tokens, and the context has {limit:,}. Drop the oldest turns?"):
            return False
        room = min(self.parameters.get("max_tokens", limit), limit // _ROOM)
        # The more turns go, the fewer tokens are left: the least number that leaves the room is searched by halves.
        turns = 1 + bisect_left(range(1, most), True, key=lambda turns: self._tokens_without(turns) + room <= limit)
        tokens = self._tokens_without(turns)
        self.conversation.messages = self.conversation.without_oldest(turns)
        note(f"{counted(turns, 'turn')} dropped; {tokens:,} of {limit:,} tokens are left")
        return True

    def _tokens_without(self, turns: int) -> int:
        return self._tokens(self.conversation.without_oldest(turns))

    def _tokens(self, messages: list[dict[str, Any]]) -> int:
        template = {name: self.parameters[name] for name in ("template_args",) if name in self.parameters}
        chat = {"model": self.model, "messages": messages, **self._described(), **template}
        return len(self.host.call("render", chat)["tokens"])

    def _models(self) -> list[str]:
        try:
            return [model["name"] for model in self.host.call("local/list")["models"]]
        except (SidecarError, SidecarGone):  # completion has no place for an error; /model will tell it
            return []

    def _status(self) -> str:
        used, limit = self.conversation.used_tokens, self.card.get("context_length")
        return f"{used:,}{f' of {limit:,}' if limit else ''} tokens · /help · {self.model}"
