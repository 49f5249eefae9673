"""The command ``models convert``: mlx_lm's own convert, in a process of its own."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from ...host import Host
from ..argument_types import positive
from ..failures import FAILED, Refused
from ..model_arguments import load_params, sidecar_options
from ..parser import Parser
from ..serve import add_engine_options
from ..standard_streams import text_of

_BITS = (2, 3, 4, 5, 6, 8)


def add_arguments(parser: Parser) -> None:
    """Define the options of ``models convert``."""
    parser.description = (
        "Runs mlx_lm's convert, which reads safetensors of the hub or of a folder, then loads the result."
    )
    parser.set_defaults(run=run, revision=None, adapter=None, trust_remote_code=False, cache_dir=None)
    parser.add_argument("source", metavar="MODEL", help="directory or hub id")
    parser.add_argument("--output", required=True, metavar="DIR", help="the folder to make; it must not be there yet")
    parser.add_argument("--bits", type=positive, choices=_BITS, help="quantise to so many bits (default: do not)")
    parser.add_argument("--group-size", type=positive, metavar="N", help="weights that share a scale (default: 64)")
    parser.add_argument("--mode", choices=["affine", "mxfp4", "mxfp8", "nvfp4"], help="format of packed weights")
    parser.add_argument("--dtype", choices=["float32", "float16", "bfloat16"], help="of weights that are not packed")
    add_engine_options(parser)


def run(args: argparse.Namespace) -> int:
    """Convert, and try the result; returns the exit status."""
    from ..terminal import load, say

    output = Path(args.output).expanduser().absolute()
    if output.exists():
        raise Refused(f"{output} is there already")
    if subprocess.run(_command(args, output)).returncode:
        raise Refused(f"mlx_lm's convert failed; what it said stands above. {output} may be half written", FAILED)
    args.model, args.dtype = str(output), None
    with Host(*sidecar_options(args)) as host:
        card = load(host, load_params(args))
    say(f"{output}: {card['memory_bytes'] / 2**20:.1f} MiB, {card.get('quantization', card['dtype'])}")
    return 0


def _command(args: argparse.Namespace, output: Path) -> list[str]:
    command = [sys.executable, "-P", "-m", "mlx_lm", "convert", "--hf-path", text_of(args.source)]
    command += ["--mlx-path", str(output)]
    if args.bits is not None or args.mode is not None:
        command.append("--quantize")
    given = {"--q-bits": args.bits, "--q-group-size": args.group_size, "--q-mode": args.mode, "--dtype": args.dtype}
    return command + [word for name, value in given.items() if value is not None for word in (name, str(value))]
