"""The command ``chat``: a conversation with a model in the terminal."""

from __future__ import annotations

import argparse
from pathlib import Path

from ...host import Host
from ..model_arguments import add_model_options, sidecar_options
from ..parser import Parser
from ..sampling import add_sampling
from .typing_ahead import typing_ahead

_DESCRIPTION = """\
Streams answers. Ctrl-C clears the line, or ends the answer that runs; Ctrl-D ends the conversation.
"""


def add_arguments(parser: Parser) -> None:
    """Define the options of ``chat``."""
    parser.description = _DESCRIPTION
    parser.set_defaults(run=run)
    parser.add_argument("model", nargs="?", default="pocket", metavar="MODEL", help="directory, hub id, or pocket")
    parser.add_argument("--system", metavar="TEXT", help="a system message to begin with")
    parser.add_argument(
        "--tools", type=Path, metavar="FILE.py", help="run this file; the model may call its public functions"
    )
    parser.add_argument("--yes-tools", action="store_true", help="run their calls without asking")
    add_sampling(parser)
    add_model_options(parser)


def run(args: argparse.Namespace) -> int:
    """Hold a conversation until the end of input; returns the exit status."""
    with typing_ahead(), Host(*sidecar_options(args)) as host:
        from .loop import converse  # while the sidecar starts

        return converse(host, args)
