"""The command ``models pull``: a hub model comes to this machine, and is loaded once to see that it runs."""

from __future__ import annotations

import argparse

from ...host import Host, SidecarError
from ..model_arguments import add_model_options, load_params, sidecar_options
from ..parser import Parser
from ..standard_streams import text_of


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
    from ..terminal import load, note, say

    with Host(*sidecar_options(args)) as host:
        try:
            path = load(host, load_params(args))["path"]
        except SidecarError as error:
            if error.data.get("kind") == "out_of_memory":
                found = host.call("local/list", {"model": text_of(args.model)})["models"]
                note(f"it is on this machine, in {found[0]['path']}, and too large for what there is of memory")
            raise
    say(f"{text_of(args.model)} is in {path}")
    return 0
