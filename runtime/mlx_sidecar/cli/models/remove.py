"""The command ``models rm``."""

from __future__ import annotations

import argparse

from ...host import Host
from ..parser import Parser
from ..standard_streams import text_of
from .local import ENGINE, size


def add_arguments(parser: Parser) -> None:
    """Define the options of ``models rm``."""
    parser.description = "Deletes models, each with all its revisions. A directory of your own is not deleted."
    parser.set_defaults(run=run)
    parser.add_argument("models", nargs="+", metavar="MODEL", help="hub id, or the directory of an imported model")


def run(args: argparse.Namespace) -> int:
    """Delete the models in turn; returns the exit status."""
    from ..terminal import say, with_near_names

    with Host(*ENGINE) as host:
        for name in map(text_of, args.models):
            with with_near_names(host, name):
                freed = host.call("local/delete", {"model": name})["freed_bytes"]
            say(f"{name} is deleted: {size(freed)}")
    return 0
