"""The command line, a room of hosts: every command but ``serve`` spawns a sidecar and speaks with it over its pipes.

Imports nothing heavy, because ``serve`` must claim stdio first.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from .arguments import command_line
from .standard_streams import cannot, is_shortage, tolerate_locale

_INTERRUPTED = 130  # the exit status that shells give a command ended by Ctrl-C


def main(argv: Sequence[str] | None = None) -> None:
    """Run one command and exit with its status; docs/cli.md lists them."""
    tolerate_locale()
    words = sys.argv[1:] if argv is None else argv
    args = command_line(words).parse(words)
    try:
        status = args.run(args)
        sys.stdout.flush()  # here, where a failure can still be reported
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)
    except Exception as error:
        from .failures import is_told, tell

        if is_told(error):
            sys.exit(tell(error))
        if is_shortage(error):
            cannot(error)
        raise
    sys.exit(status)
