"""The command ``models pull``: a hub model comes to this machine, and is loaded once to see that it runs."""

from __future__ import annotations

import argparse

from ...host import Host
from ..model_arguments import add_model_options, load_params, sidecar_options
from ..parser import Parser


def add_arguments(parser: Parser) -> None:
    """Define the options of ``models pull``."""
    parser.description = (
        "Downloads what is not there yet: a download that was broken off goes on where it stopped. Then the model is "
        "loaded once, so that one that does not run is known now."
    )
    parser.set_defaults(run=run)
    parser.add_argument("model", metavar="MODEL", help="hub id, as owner/name")
    add_model_options(parser)


def run(args: argparse.Namespace) -> int:
    """Download and load the model; returns the exit status."""
    from ..terminal import load, say

    with Host(*sidecar_options(args)) as host:
        card = load(host, load_params(args))
    say(f"{card['model']} is in {card['path']}")
    return 0
