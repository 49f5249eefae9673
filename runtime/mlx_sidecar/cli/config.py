"""The command ``config``: the defaults that a person has set, and where."""

from __future__ import annotations

import argparse
import json
import os

from .parser import Parser

_DESCRIPTION = """\
Defaults of options come from the command line, else from the environment, else from a file:
  MLX_SIDECAR_MAX_TOKENS=200              an option in capitals, with underscores
  max-tokens = 200                        in config.toml, for all commands that have the option
  [chat]                                  ... and those of one command
  model = "mlx-community/Qwen3-4B-4bit"
MLX_SIDECAR_CONFIG names another file, or with nothing behind it none. serve takes the environment alone, so that the
program that spawns it gets what it asked for.
"""


def add_arguments(parser: Parser) -> None:
    """Define the subcommand."""
    parser.description, parser.formatter_class = _DESCRIPTION, argparse.RawDescriptionHelpFormatter
    parser.set_defaults(run=run)
    parser.add_argument(
        "action", choices=["show", "path"], help="show: every default that is set, and where; path: the file"
    )


def run(args: argparse.Namespace) -> int:
    """Show the defaults, or the path of the file; returns the exit status."""
    from .arguments import COMMANDS, command_line
    from .settings import FILE_VARIABLE, PREFIX, at_the_top, config_file, settings_of
    from .terminal import note, say

    file = config_file()
    if args.action == "path":
        say(str(file or ""))
        return 0
    note(f"{file or 'no file'}{'' if file and file.exists() else ', which is not there' if file else ''}")
    known, read = {FILE_VARIABLE}, set[str]()
    for command in COMMANDS:
        for setting in settings_of(command_line([command.name]).commands[command.name], command.name):
            known.add(setting.origin)
            read.add(setting.option)
            # TOML has dates as well, of which no option takes any.
            value = json.dumps(setting.value, ensure_ascii=False, default=str)
            say(f"{command.name} --{setting.option} {value}  ({setting.origin})")
    for name in sorted(at_the_top(file) - read):
        note(f"{name} in {file} is not read: no command has such an option")
    for name in sorted(name for name in os.environ if name.startswith(PREFIX) and name not in known):
        note(f"{name} is not read: no option has this name")
    return 0
