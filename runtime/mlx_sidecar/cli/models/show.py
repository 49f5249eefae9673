"""The command ``models show``."""

from __future__ import annotations

import argparse
import json
import sys

from ...host import Host
from ..failures import MODEL
from ..parser import Parser
from ..standard_streams import text_of
from .local import ENGINE, count, size


def add_arguments(parser: Parser) -> None:
    """Define the options of ``models show``."""
    parser.set_defaults(run=run)
    parser.add_argument("model", metavar="MODEL", help="directory, hub id, or pocket")
    parser.add_argument("--json", action="store_true", help="as the contract's local/list answers it")


def run(args: argparse.Namespace) -> int:
    """Show one model; returns the exit status, 3 if it would not be loaded."""
    from ..terminal import say, with_near_names

    with Host(*ENGINE) as host, with_near_names(host, text_of(args.model)):
        (model,) = host.call("local/list", {"model": text_of(args.model)})["models"]
    if args.json:
        json.dump(model, sys.stdout, ensure_ascii=False, indent=1)
        say("")
    else:
        worded = {"size_bytes": size(model["size_bytes"])}
        if "parameters" in model:
            worded["parameters"] = count(model["parameters"])
        for name, value in (model | worded).items():
            if name != "loaded":  # by the sidecar that was asked, which is a new one
                say(f"{name.removesuffix('_bytes'):>14}  {value}")
    return MODEL if "problem" in model else 0
