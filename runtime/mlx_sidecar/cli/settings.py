"""Defaults of options from ``MLX_SIDECAR_*`` and from a file of the person, and where each one came from.

The command line goes before the environment, and that before the file. ``serve`` takes the environment alone: a
program that spawns it gets what it asks for on every machine, and the file costs 25 ms to find and read.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .failures import USAGE, Refused
from .parser import Parser, nearest

PREFIX = "MLX_SIDECAR_"
FILE_VARIABLE = "MLX_SIDECAR_CONFIG"  # another file, or nothing for none
_TABLES = {"chat", "generate", "doctor"}


@dataclass(frozen=True)
class Setting:
    """A default: its option, its value as it was written, and where."""

    option: str
    value: Any
    origin: str


def config_file() -> Path | None:
    """The person's file, whether or not it is there."""
    if (named := os.environ.get(FILE_VARIABLE)) is not None:
        return Path(named).expanduser() if named else None
    from platformdirs import user_config_path

    return user_config_path("mlx-sidecar") / "config.toml"


def settings_of(parser: Parser, command: str) -> list[Setting]:
    """The defaults of ``command`` that environment and file change. Raises ``Refused`` for a file that is wrong."""
    options = dict(_options(parser))
    found: dict[str, Setting] = {}
    if command != "serve":
        file = config_file()
        found = {setting.option: setting for setting in _in_file(file, command, options)} if file else {}
    for name in options:
        variable = PREFIX + name.upper().replace("-", "_")
        if variable in os.environ and variable != FILE_VARIABLE:
            found[name] = Setting(name, os.environ[variable], variable)
    return list(found.values())


def apply(parser: Parser, command: str) -> None:
    """Make the settings of ``command`` the defaults of its parser. Raises ``Refused`` naming one that does not fit."""
    options = dict(_options(parser))
    for setting in settings_of(parser, command):
        action = options[setting.option]
        try:
            parser.set_defaults(**{action.dest: _converted(parser, action, setting.value)})
        except (argparse.ArgumentError, argparse.ArgumentTypeError) as error:
            message = error.message if isinstance(error, argparse.ArgumentError) else error
            raise Refused(f"{setting.origin}: {setting.option}: {message}", USAGE) from error


def _options(parser: Parser) -> Iterator[tuple[str, argparse.Action]]:
    """The long options of a parser that stand for a value, without their dashes; and its model."""
    for action in parser._actions:
        long = [option for option in action.option_strings if option.startswith("--")]
        if long and action.dest not in ("help", "version"):
            yield long[0].removeprefix("--"), action
        elif action.dest == "model" and action.nargs == "?":
            yield "model", action


def _in_file(path: Path, command: str, options: dict[str, argparse.Action]) -> Iterator[Setting]:
    """The settings in the file: of all commands at its top, and of one in a table of its name."""
    tables = _read(path)
    shared = {name: value for name, value in tables.items() if not isinstance(value, dict)}
    for name in sorted(tables.keys() - shared.keys() - _TABLES):
        raise Refused(f"{path}: there is no command [{name}]{nearest(name, _TABLES)}", USAGE)
    for name in sorted(_TABLES & shared.keys()):
        raise Refused(f"{path}: {name} is a command, whose options stand below [{name}]", USAGE)
    own = tables.get(command, {})
    for name in own:
        if name not in options:
            raise Refused(f"{path}: [{command}] has no option {name!r}{nearest(name, options)}", USAGE)
    for name, value in {**shared, **own}.items():
        if name in options:  # what stands at the top is for the commands that have it
            yield Setting(name, value, str(path))


def _read(path: Path) -> dict[str, Any]:
    """The content of the file; nothing, if there is none. Raises ``Refused``."""
    if not path.exists():
        return {}
    import tomllib

    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:  # a TOMLDecodeError and a UnicodeDecodeError are ValueErrors
        raise Refused(f"{path}: {error}", USAGE) from error


def at_the_top(path: Path | None) -> set[str]:
    """The names at the top of the file."""
    return {name for name, value in _read(path).items() if not isinstance(value, dict)} if path else set()


def _converted(parser: Parser, action: argparse.Action, value: Any) -> Any:
    """The value that the option would have, given ``value`` on the command line."""
    if action.nargs == 0:
        return _switched(action, value)
    if isinstance(value, list):
        return [_converted_one(parser, action, each) for each in value]
    converted = _converted_one(parser, action, value)
    return [converted] if isinstance(action, argparse._AppendAction) else converted


def _converted_one(parser: Parser, action: argparse.Action, value: Any) -> Any:
    converted = parser._get_value(action, value if isinstance(value, str) else str(value))
    parser._check_value(action, converted)
    return converted


def _switched(action: argparse.Action, value: Any) -> Any:
    words = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}
    on = value if isinstance(value, bool) else words.get(str(value).lower())
    if on is None:
        raise argparse.ArgumentTypeError(f"{value!r} is neither true nor false")
    return action.const if on else action.default
