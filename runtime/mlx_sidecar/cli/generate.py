"""The command ``generate``: one answer on stdout, its figures on stderr."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from ..host import Host
from .argument_types import integer
from .failures import ending
from .forms import add_form, form
from .model_arguments import add_model_options, load_params, sidecar_options
from .parser import Parser
from .sampling import add_sampling, sampling
from .standard_streams import text_of

_DESCRIPTION = """\
Writes one answer to stdout and its figures to stderr, then exits. Ctrl-C ends the answer with what there is of it.
The exit status is 2 for a wrong command line, 3 for a model that is not there or cannot be loaded, 4 for a parameter
or a prompt that is refused, 5 for an engine that failed, 130 after Ctrl-C, and 1 for anything else.
"""


def add_arguments(parser: Parser) -> None:
    """Define the options of ``generate``."""
    parser.description, parser.formatter_class = _DESCRIPTION, argparse.RawDescriptionHelpFormatter
    parser.set_defaults(run=run)
    parser.add_argument("model", metavar="MODEL", help="directory, hub id, or pocket")
    parser.add_argument("prompt", nargs="?", default="-", metavar="PROMPT", help="the text; - or nothing reads stdin")
    parser.add_argument("--chat", action="store_true", help="send the text as a user's message, through the template")
    parser.add_argument("--system", metavar="TEXT", help="a system message before it; implies --chat")
    parser.add_argument("--json", action="store_true", help="write the contract's whole result as JSON, and no figures")
    parser.add_argument("--quiet", "-q", action="store_true", help="no progress and no figures on stderr")
    parser.add_argument(
        "--logprobs", type=integer, metavar="N", help="with --json: log probabilities, with N alternatives a token"
    )
    parser.add_argument(
        "--explain-cache", action="store_true", default=None, help="tell where the prompt left the nearest cached one"
    )
    add_form(parser)
    add_sampling(parser)
    add_model_options(parser)


def run(args: argparse.Namespace) -> int:
    """Generate; returns the exit status."""
    if args.logprobs is not None and not args.json:
        args.parser.error("argument --logprobs: only --json has room for them")
    from .terminal import load

    params = {**form(args), **_prompt(args), **sampling(args)}
    params |= {name: value for name in ("logprobs", "explain_cache") if (value := getattr(args, name)) is not None}
    with Host(*sidecar_options(args)) as host:
        how = load_params(args)
        load(host, how, quiet=args.quiet or args.json)
        model = how["model"]
        return _as_json(host, model, params) if args.json else _as_text(host, model, params, quiet=args.quiet)


def _prompt(args: argparse.Namespace) -> dict[str, Any]:
    text = sys.stdin.read() if args.prompt == "-" else text_of(args.prompt)
    if not (args.chat or args.system is not None):
        return {"prompt": text}
    system = [] if args.system is None else [{"role": "system", "content": text_of(args.system)}]
    return {"messages": [*system, {"role": "user", "content": text}]}


def _as_json(host: Host, model: str, params: dict[str, Any]) -> int:
    import json

    result = host.generate({"model": model, **params}, lambda _: None)
    result.pop("stream")
    json.dump(result, sys.stdout, ensure_ascii=False)
    sys.stdout.write("\n")
    return ending(result)


def _as_text(host: Host, model: str, params: dict[str, Any], *, quiet: bool) -> int:
    from .terminal import answer, note

    result = answer(host, {"model": model, **params}, quiet=quiet)
    if "cache" in result and not quiet:
        note(result["cache"]["summary"])
    return ending(result)
