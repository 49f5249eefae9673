"""The command ``models import``: a model directory out of a GGUF file."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ..failures import Refused
from ..parser import Parser

if TYPE_CHECKING:
    from ...checkpoint.gguf.plan import Bits

_BITS: dict[str, Bits] = {"auto": "auto", "4": 4, "5": 5, "6": 6, "8": 8}


def add_arguments(parser: Parser) -> None:
    """Define the options of ``models import``."""
    parser.description = (
        "Makes a model directory as mlx-lm reads it: weights, config, tokenizer and chat template. Q4_0, Q4_1, Q5_0, "
        "Q5_1 and Q8_0 are moved without loss; halves and floats stay as they are; what is not known is refused."
    )
    parser.set_defaults(run=run)
    parser.add_argument("file", type=Path, metavar="FILE", help="a GGUF file")
    parser.add_argument("--output", required=True, type=Path, metavar="DIR", help="the directory to make")
    parser.add_argument(
        "--requantize",
        choices=list(_BITS),
        metavar="BITS",
        help="quantise again what cannot be moved without loss, such as K-quants, to 4, 5, 6 or 8 bits, or to bits "
        "that fit the format (auto); the error is told. Without it such a file is refused",
    )
    parser.add_argument(
        "--dtype",
        choices=["float32", "float16", "bfloat16"],
        help="of scales and of weights that are not packed (default: as in the file)",
    )


def run(args: argparse.Namespace) -> int:
    """Import, and tell what became of the weights; returns the exit status."""
    from ..gguf import import_to
    from ..terminal import say

    output = args.output.expanduser().absolute()
    if output.exists():
        raise Refused(f"{output} is there already")
    again = None if args.requantize is None else _BITS[args.requantize]
    made = import_to(args.file.expanduser(), output, again, args.dtype)
    say(f"{made.path}: {made.architecture}, {made.weights_bytes / 2**20:.1f} MiB of weights")
    for rounding in made.roundings:
        say(f"  {rounding.words}")
    return 0
