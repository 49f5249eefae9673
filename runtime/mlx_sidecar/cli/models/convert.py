"""The command ``models convert``: mlx_lm's own convert, in a process of its own."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from ...host import Host
from ..argument_types import positive
from ..failures import MODEL, Refused
from ..model_arguments import load_params, sidecar_options
from ..parser import Parser
from ..serve import add_engine_options
from ..standard_streams import text_of
from .local import ENGINE

_BITS = (2, 3, 4, 5, 6, 8)


def add_arguments(parser: Parser) -> None:
    """Define the options of ``models convert``."""
    parser.description = "Runs mlx_lm's convert on a model that is on this machine, then loads the result."
    parser.set_defaults(run=run, revision=None, adapter=None, trust_remote_code=False, cache_dir=None)
    parser.add_argument("source", metavar="MODEL", help="directory, or hub id of a model that was pulled")
    parser.add_argument("--output", required=True, metavar="DIR", help="the folder to make; it must not be there yet")
    parser.add_argument("--bits", type=positive, choices=_BITS, help="quantise to so many bits (default: do not)")
    parser.add_argument("--group-size", type=positive, metavar="N", help="weights that share a scale (default: 64)")
    parser.add_argument("--mode", choices=["affine", "mxfp4", "mxfp8", "nvfp4"], help="format of packed weights")
    parser.add_argument("--dtype", choices=["float32", "float16", "bfloat16"], help="of weights that are not packed")
    add_engine_options(parser)


def run(args: argparse.Namespace) -> int:
    """Convert, and try the result; returns the exit status."""
    from ..terminal import load, say, with_near_names

    output, source = Path(args.output).expanduser().absolute(), text_of(args.source)
    if output.exists():
        raise Refused(f"{output} is there already")
    with Host(*ENGINE) as host, with_near_names(host, source):
        (found,) = host.call("local/list", {"model": source})["models"]
    # Its own words go to stderr, like all that is no result; of a failure the last line says why.
    done = subprocess.run(_command(args, found["path"], output), stdout=sys.stderr, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        because = done.stderr.strip().splitlines()[-1:] or [f"status {done.returncode}"]
        raise Refused(f"mlx_lm's convert failed: {because[0]}. {output} may be half written", MODEL)
    args.model, args.dtype = str(output), None
    with Host(*sidecar_options(args)) as host:
        card = load(host, load_params(args))
    say(f"{output}: {card['memory_bytes'] / 2**20:.1f} MiB, {card.get('quantization', card['dtype'])}")
    return 0


def _command(args: argparse.Namespace, source: str, output: Path) -> list[str]:
    command = [sys.executable, "-P", "-m", "mlx_lm", "convert", "--hf-path", source]
    command += ["--mlx-path", str(output)]
    if args.bits is not None or args.mode is not None:
        command.append("--quantize")
    given = {"--q-bits": args.bits, "--q-group-size": args.group_size, "--q-mode": args.mode, "--dtype": args.dtype}
    return command + [word for name, value in given.items() if value is not None for word in (name, str(value))]
