"""The commands of a conversation, each a line that begins with a slash."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..failures import Refused
from ..parser import nearest
from ..sampling import LISTS, NAMES, json_value
from ..terminal import counted, figures, note
from . import conversation
from .text_file import read_text

if TYPE_CHECKING:
    from .loop import Chat


@dataclass(frozen=True)
class ChatCommand:
    """A command: what it is followed by, a line of help, and what it does with that."""

    argument: str
    help: str
    run: Callable[[Chat, str], None]


def command_of(line: str) -> tuple[ChatCommand, str] | None:
    """The command of ``line`` and its argument; None for a message, such as one that begins with a path.

    Raises ``Refused`` for a command that does not exist.
    """
    word, _, argument = line.strip().partition(" ")
    if not word.startswith("/") or not (word == "/" or word[1:].isalpha()):
        return None
    if (word := word.lower()) not in COMMANDS:
        raise Refused(f"no command {word}{nearest(word, COMMANDS) or '; /help lists them'}")
    return COMMANDS[word], argument.strip()


def _help(_chat: Chat, _: str) -> None:
    width = max(len(f"{word} {command.argument}") for word, command in COMMANDS.items())
    for word, command in COMMANDS.items():
        note(f"{f'{word} {command.argument}':{width}}  {command.help}")
    note('Alt-Enter, or """ before and behind, for several lines. Ctrl-C clears the line, or ends an answer.')


def _clear(chat: Chat, _: str) -> None:
    chat.conversation.clear()
    note("the conversation begins anew")


def _system(chat: Chat, argument: str) -> None:
    if argument:
        chat.conversation.system = None if argument == "none" else argument
    note(f"system message: {chat.conversation.system or 'none'}")


def _model(chat: Chat, argument: str) -> None:
    if argument:
        chat.load(argument)
    note(f"model: {chat.model}")


def _set(chat: Chat, argument: str) -> None:
    name, _, value = argument.partition(" ")
    if name and name not in NAMES:
        raise Refused(f"no parameter {name!r}{nearest(name, NAMES) or ': ' + ', '.join(NAMES)}")
    if name:
        changed = {key: old for key, old in chat.parameters.items() if key != name}
        if (chosen := _value(name, value.strip())) is not None:
            changed[name] = chosen
            _check(changed)
        chat.parameters = changed
    given = [f"{key} = {json.dumps(each, ensure_ascii=False)}" for key, each in chat.parameters.items()]
    note(", ".join(given) or "no parameter is set: the answer is the likeliest one")


def _value(name: str, text: str) -> object:
    """The value of a parameter; None, which JSON spells null, unsets it as nothing does."""
    value = json_value(text) if text else None
    if name not in LISTS or value is None or isinstance(value, list):
        return value
    return [text if name == "stop" and not isinstance(value, str) else value]


def _check(parameters: dict[str, object]) -> None:
    from mlx_sidecar_protocol.errors import InvalidParams
    from mlx_sidecar_protocol.generate import GenerateParams

    message = {"role": "user", "content": "x"}
    try:
        GenerateParams.parse({"model": "x", "messages": [message], **parameters})
    except InvalidParams as error:
        raise Refused(str(error)) from error


def _save(chat: Chat, argument: str) -> None:
    path = _path(argument, "/save PATH")
    conversation.write(path, chat.model, chat.conversation, chat.parameters)
    note(f"saved to {path}")


def _load(chat: Chat, argument: str) -> None:
    messages = conversation.read(_path(argument, "/load PATH"))
    chat.conversation.clear()
    chat.conversation.messages = messages
    note(f"{counted(chat.conversation.turns, 'question')}; the model stays {chat.model}")


def _file(chat: Chat, argument: str) -> None:
    path = _path(argument, "/file PATH")
    text = read_text(path)
    chat.conversation.attached.append((path.name, text))
    note(f"{path.name}, {len(text):,} characters, goes with the next question")


def _path(argument: str, usage: str) -> Path:
    if not argument:
        raise Refused(usage)
    return Path(argument).expanduser()


def _retry(chat: Chat, _: str) -> None:
    if not chat.conversation.turns:
        raise Refused("there is no question to be answered again")
    before = list(chat.conversation.messages)
    chat.conversation.take_back(question=False)
    answered = False
    try:
        answered = chat.respond()
    finally:
        if not answered:
            chat.conversation.messages = before


def _tools(chat: Chat, _: str) -> None:
    for tool in chat.tools.values():
        summary = tool.description.partition("\n")[0]
        note(f"{tool.name}{inspect.signature(tool.function)}{f'  {summary}' if summary else ''}")
    if not chat.tools:
        note("no tools: mlx-sidecar chat --tools FILE.py has the functions of a file")


def _stats(chat: Chat, _: str) -> None:
    stats, card = chat.host.call("stats"), chat.card
    context = f" of {card['context_length']:,}" if "context_length" in card else ""
    words = [word for name in ("architecture", "dtype", "quantization") if (word := card.get(name))]
    note(f"model         {chat.model} ({', '.join(words)}), {_mib(card.get('memory_bytes', 0))}")
    asked = counted(chat.conversation.turns, "question")
    note(f"conversation  {asked}, {chat.conversation.used_tokens:,}{context} tokens")
    if chat.last is not None:
        note(f"last answer   {figures(chat.last)}, seed {chat.last['seed']}")
    engine, memory, counters = stats["engine"], stats["memory"], stats["counters"]
    in_use = f"{_mib(memory.get('used_bytes', 0))} of {_mib(memory.get('limit_bytes', 0))} in use"
    note(f"engine        {engine.get('backend', engine['state'])}, {in_use}, {counted(engine['restarts'], 'restart')}")
    prompt, cached, new = (counters.get(f"{kind}_tokens", 0) for kind in ("prompt", "cached", "completion"))
    note(f"since start   {prompt:,} prompt tokens, {cached:,} cached, {new:,} new")


def _mib(size: int) -> str:
    return f"{size / 2**20:,.1f} MiB"


def _bye(chat: Chat, _: str) -> None:
    chat.over = True


COMMANDS = {
    "/help": ChatCommand("", "this list", _help),
    "/clear": ChatCommand("", "begin anew, with the same system message", _clear),
    "/system": ChatCommand("[TEXT]", "show or change the system message; none removes it", _system),
    "/model": ChatCommand("[MODEL]", "show the model, or go on with another one", _model),
    "/set": ChatCommand("[NAME [VALUE]]", "show, change or unset sampling parameters", _set),
    "/file": ChatCommand("PATH", "attach a text to the next question", _file),
    "/save": ChatCommand("PATH", "write the conversation to a new file", _save),
    "/load": ChatCommand("PATH", "go on with a conversation that was saved", _load),
    "/retry": ChatCommand("", "ask the last question again", _retry),
    "/tools": ChatCommand("", "the functions that the model may call", _tools),
    "/stats": ChatCommand("", "figures of the model, the conversation and the engine", _stats),
    "/bye": ChatCommand("", "end the conversation, as Ctrl-D does", _bye),
}


def completions(models: Callable[[], Iterable[str]]) -> dict[str, Callable[[], Iterable[str]] | None]:
    """Every command with the words that may follow it; None stands for a path."""
    follows: dict[str, Callable[[], Iterable[str]] | None] = dict.fromkeys(COMMANDS, list)
    return follows | {"/model": models, "/set": lambda: NAMES, "/file": None, "/save": None, "/load": None}
