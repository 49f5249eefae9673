"""The command ``models list``."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from ..failures import Refused
from ..parser import Parser
from ..standard_streams import text_of
from .local import count, local_models, size

_HEADINGS = ("NAME", "SIZE", "PARAMETERS", "WEIGHTS", "CONTEXT", "SOURCE")


def add_arguments(parser: Parser) -> None:
    """Define the options of ``models list``."""
    parser.set_defaults(run=run)
    parser.add_argument("folders", nargs="*", metavar="DIR", help="a folder whose model directories are listed as well")
    parser.add_argument("--json", action="store_true", help="as the contract's local/list answers it")


def run(args: argparse.Namespace) -> int:
    """List the models; returns the exit status."""
    from ..terminal import say

    folders = [text_of(folder) for folder in args.folders]
    for folder in folders:
        if not Path(folder).expanduser().is_dir():
            raise Refused(f"{folder} is no folder")
    models = local_models(folders)
    if args.json:
        json.dump({"models": models}, sys.stdout, ensure_ascii=False, indent=1)
        say("")
        return 0
    rows = [_HEADINGS, *map(_row, models)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADINGS))]
    for row, problem in zip(rows, ["", *(model.get("problem", "") for model in models)], strict=True):
        say("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
        if problem:
            say(f"  {problem}")
    return 0


def _row(model: dict[str, Any]) -> tuple[str, ...]:
    return (
        model["name"],
        size(model["size_bytes"]),
        count(model["parameters"]) if "parameters" in model else "",
        model.get("quantization") or model.get("dtype", ""),
        f"{model['context_length']:,}" if "context_length" in model else "",
        model["source"],
    )
