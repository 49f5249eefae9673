"""The line editor of a terminal: history, several lines, whole pastes, completion, and a line of figures below."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from prompt_toolkit import PromptSession
from prompt_toolkit.application import get_app
from prompt_toolkit.completion import CompleteEvent, Completer, Completion, PathCompleter
from prompt_toolkit.document import Document
from prompt_toolkit.filters import Condition, is_searching
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.output import create_output
from prompt_toolkit.output.plain_text import PlainTextOutput
from prompt_toolkit.styles import Style
from prompt_toolkit.utils import is_dumb_terminal

from ..terminal import note
from ..terminal_text import harmless
from .reading import is_open, unquoted
from .typing_ahead import mark_pastes

_STYLE = Style.from_dict({"prompt": "bold", "bottom-toolbar": "noreverse dim"})
_LEAVING = "Ctrl-D or /bye ends the conversation"


class LineEditor:
    """Asks on the terminal. ``words`` are the commands, each with what it is followed by; ``status`` is shown below."""

    def __init__(self, words: dict[str, Callable[[], Iterable[str]] | None], status: Callable[[], str]) -> None:
        self._status, self._hint = status, ""
        dumb = is_dumb_terminal()
        stdout = sys.stdout if sys.stdout.isatty() else sys.stderr
        output = PlainTextOutput(stdout) if dumb else create_output(stdout=stdout)
        self._session: PromptSession[str] = PromptSession(
            [("class:prompt", "> ")],
            multiline=True,  # Enter is bound to send, and a paste may have lines
            prompt_continuation="  ",
            history=_history(),
            completer=_CommandCompleter(words),
            complete_while_typing=Condition(lambda: get_app().current_buffer.text.startswith("/")),
            key_bindings=self._keys(),
            bottom_toolbar=lambda: self._hint or harmless(self._status()),
            style=_STYLE,
            output=output,
            enable_open_in_editor=True,
        )
        self._yes_or_no: PromptSession[str] = PromptSession(output=output)
        if dumb:
            # prompt_toolkit spares dumb terminals its drawing only where it was given no output, and the one it makes
            # itself begins with an escape sequence.
            self._session._output = self._yes_or_no._output = None

    def ask(self) -> str | None:
        self._hint = ""
        try:
            return unquoted(self._session.prompt())
        except EOFError:
            return None
        finally:
            mark_pastes()

    def confirm(self, question: str, *, default: bool = True) -> bool:
        choices, yes = ("[Y/n]", ("", "y", "yes")) if default else ("[y/N]", ("y", "yes"))
        try:
            return self._yes_or_no.prompt(f"{harmless(question)} {choices} ").strip().lower() in yes
        except (EOFError, KeyboardInterrupt):
            return False

    def _keys(self) -> KeyBindings:
        keys = KeyBindings()

        @keys.add("enter")
        def send(event: KeyPressEvent) -> None:
            if is_open(event.current_buffer.text):
                event.current_buffer.newline()
            else:
                event.current_buffer.validate_and_handle()

        @keys.add("escape", "enter")
        def new_line(event: KeyPressEvent) -> None:
            event.current_buffer.newline()

        @keys.add("c-c", filter=~is_searching)  # in a search of the history it ends that
        @keys.add("<sigint>")
        def clear(event: KeyPressEvent) -> None:
            self._hint = "" if event.current_buffer.text else _LEAVING
            event.current_buffer.reset()

        return keys


class _CommandCompleter(Completer):
    """Completes commands, and behind one the words or the path that it is followed by."""

    def __init__(self, words: dict[str, Callable[[], Iterable[str]] | None]) -> None:
        self._words = words
        self._paths = PathCompleter(expanduser=True)

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterator[Completion]:
        command, space, argument = document.text_before_cursor.partition(" ")
        if not command.startswith("/") or "\n" in document.text:
            return
        if not space:
            yield from _beginning_with(command, self._words)
        elif command in self._words:
            words = self._words[command]
            if words is None:
                yield from self._paths.get_completions(Document(argument), complete_event)
            else:
                yield from _beginning_with(argument, words())


def _beginning_with(begun: str, words: Iterable[str]) -> Iterator[Completion]:
    return (Completion(word, start_position=-len(begun)) for word in words if word.startswith(begun))


def _history() -> History:
    """The questions of earlier conversations, in a file that its owner alone may read."""
    from platformdirs import user_state_path

    path: Path = user_state_path("mlx-sidecar") / "chat-history"
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.touch(mode=0o600)
    except OSError as error:
        note(f"questions are not kept for the next time: {path}: {error.strerror}")
        return InMemoryHistory()
    return FileHistory(str(path))
