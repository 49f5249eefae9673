"""The command line, a room of hosts: every command but ``serve`` spawns a sidecar and speaks with it over its pipes.

Imports nothing heavy, because ``serve`` must claim stdio first.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from .arguments import command_line
from .parser import Parser
from .standard_streams import cannot, is_shortage, open_closed, tolerate_locale

_INTERRUPTED = 130  # the exit status that shells give a command ended by Ctrl-C

_WITH_FILE = ("chat", "generate", "doctor")  # commands that read the person's settings; serve has the environment's


def main(argv: Sequence[str] | None = None) -> None:
    """Run one command and exit with its status; docs/cli.md lists them."""
    tolerate_locale()
    words = sys.argv[1:] if argv is None else argv
    parser = command_line(words)
    try:
        if words[:1] != ["serve"]:  # which claims its streams itself
            open_closed()
        if words and words[0] in parser.commands:
            _apply_settings(parser.commands[words[0]], words[0])
        args = parser.parse(words)
        status = args.run(args)
        sys.stdout.flush()  # here, where a failure can still be reported
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)
    except Exception as error:
        # Imported here, because serve needs none of it.
        from .failures import is_told, tell

        if is_told(error):
            sys.exit(tell(error))
        if is_shortage(error):
            cannot(error)
        raise
    sys.exit(status)


def _apply_settings(parser: Parser, command: str) -> None:
    """Make the person's settings the defaults. For ``serve`` that costs nothing where the environment has none."""
    if command in _WITH_FILE or (command == "serve" and any(name.startswith("MLX_SIDECAR_") for name in os.environ)):
        from .settings import apply

        apply(parser, command)
