"""The command ``serve``, and those of its options that other commands pass on to the sidecar they spawn."""

from __future__ import annotations

import argparse
import sys
from dataclasses import fields
from pathlib import Path
from typing import NoReturn

from ..config import Config
from .argument_types import nesting, new_file, not_negative, positive, seconds
from .parser import Parser

_DESCRIPTION = """\
Speaks JSON-RPC 2.0 on stdin and stdout until stdin ends, the parent process ends, or a host sends shutdown and exit.
Framing is found from the first bytes: Content-Length headers as in LSP, or one JSON text per line.
Logs go to stderr, and as log notifications to a host that has sent initialize.
"""


_WAITING = """\
mlx-sidecar serve waits for a program to speak JSON-RPC 2.0 on its stdin, and this is a terminal. A request is a line:
  {"jsonrpc":"2.0","id":1,"method":"generate","params":{"model":"pocket","prompt":"Hello"}}
Ctrl-D ends it. To talk to a model yourself: mlx-sidecar chat
"""


def add_arguments(serve: Parser) -> None:
    """Define the options of ``serve``."""
    serve.description, serve.formatter_class = _DESCRIPTION, argparse.RawDescriptionHelpFormatter
    serve.set_defaults(run=run)
    serve.add_argument(
        "--framing", choices=["auto", "lines", "headers"], default="auto", help="force one framing (default: auto)"
    )
    serve.add_argument("--fixtures", action="store_true", help="also serve the t.* methods of the conformance kit")
    serve.add_argument(
        "--no-autoload",
        dest="autoload",
        action="store_false",
        help="refuse operations on a model that was not loaded, with model_not_loaded, instead of loading it",
    )
    serve.add_argument(
        "--frame-limit-bytes", type=positive, default=Config.frame_limit_bytes, help="longest message taken"
    )
    serve.add_argument("--batch-limit", type=positive, default=Config.batch_limit, help="longest JSON-RPC batch taken")
    serve.add_argument("--nesting-limit", type=nesting, default=Config.nesting_limit, help="deepest JSON taken")
    serve.add_argument(
        "--values-limit", type=positive, default=Config.values_limit, help="most values (ids, strings …) in a message"
    )
    serve.add_argument(
        "--requests-limit-bytes",
        type=positive,
        default=Config.requests_limit_bytes,
        help="for requests that are being worked on; more are refused as overloaded",
    )
    serve.add_argument(
        "--answers-limit-bytes",
        type=positive,
        default=Config.answers_limit_bytes,
        help="for answers that the host has not read; beyond it nothing is read",
    )
    serve.add_argument(
        "--journal-limit-bytes",
        type=positive,
        default=Config.journal_limit_bytes,
        help="for what is remembered of open requests, so that they outlive the engine: 4 bytes a token",
    )
    serve.add_argument(
        "--sessions-limit", type=positive, default=Config.sessions_limit, help="most sessions that are open"
    )
    serve.add_argument(
        "--sessions-limit-bytes",
        type=positive,
        default=Config.sessions_limit_bytes,
        help="for the tokens and messages of all sessions",
    )
    _add_cache_options(serve)
    serve.add_argument(
        "--stall-after-s",
        type=seconds,
        default=Config.stall_after_s,
        help="least time after which a device operation that does not end is taken for a hang (default: 10)",
    )
    serve.add_argument(
        "--trust-remote-code",
        action="store_true",
        help="run the Python code that model directories bring; without it such models are refused",
    )
    serve.add_argument(
        "--log-level", choices=["debug", "info", "warning", "error"], default="warning", help="(default: warning)"
    )
    serve.add_argument(
        "--trace",
        type=new_file,
        metavar="FILE",
        help="write a time line of device operations and requests, for Perfetto or chrome://tracing",
    )
    add_engine_options(serve)


def _add_cache_options(serve: Parser) -> None:
    serve.add_argument(
        "--cache-limit-bytes",
        type=not_negative,
        help="for prompts that are cached in memory (default: a quarter of what the engine may use; 0: no cache)",
    )
    serve.add_argument(
        "--cache-dir",
        nargs="?",
        const="",
        metavar="DIR",
        help="cache prompts on disk as well; without DIR in the user's cache directory",
    )
    serve.add_argument(
        "--cache-disk-limit-bytes",
        type=positive,
        help="for what is cached on disk (default: 16 GiB)",
    )


def add_engine_options(parser: argparse._ActionsContainer) -> None:
    """Define the options that every command with an engine has."""
    parser.add_argument(
        "--engine",
        choices=["mlx", "fake"],
        default="mlx",
        help="fake: no model, scripted tokens and timing, for a host's own tests (default: mlx)",
    )
    parser.add_argument(
        "--numerics",
        choices=["fast", "exact"],
        default="fast",
        help="exact: the same bits whatever shares the batch, at the price of speed (default: fast)",
    )
    parser.add_argument(
        "--native",
        choices=["auto", "off"],
        default="auto",
        help="auto: on a Linux CPU native code computes the models that it knows; off: mlx does (default: auto)",
    )
    parser.add_argument("--threads", type=positive, default=1, help="of native code (default: 1)")
    parser.add_argument(
        "--activations",
        choices=["float", "int8"],
        default="float",
        help="int8: native code rounds them while it decodes with quantised weights, which is faster and less exact"
        " (default: float)",
    )
    parser.add_argument(
        "--kv-cache-dtype",
        choices=["auto", "float16"],
        default="auto",
        help="float16: native code rounds the keys and values that it keeps, which takes half the memory and is faster"
        " behind long prompts; auto: they are kept as they are computed (default: auto)",
    )
    parser.add_argument(
        "--memory-limit-bytes",
        type=positive,
        help="for weights and caches; the machine or a cgroup may have less (default: what these and the device allow)",
    )


def engine_options(args: argparse.Namespace) -> list[str]:
    """The options of ``serve`` that a command passes on to the sidecar it spawns."""
    options = ["--engine", args.engine]
    for name in ("numerics", "native", "threads", "activations", "kv_cache_dtype"):
        options += [f"--{name.replace('_', '-')}", str(getattr(args, name))]
    if args.memory_limit_bytes is not None:
        options += ["--memory-limit-bytes", str(args.memory_limit_bytes)]
    return options


def run(args: argparse.Namespace) -> NoReturn:
    """Serve the host on stdin and stdout, then leave the process."""
    from ..front.serve import serve

    refuse_ignored(args.parser, args)
    if sys.stdin is not None and sys.stderr is not None and sys.stdin.isatty():
        sys.stderr.write(_WAITING)
        sys.stderr.flush()
    serve(config_of(args))


def config_of(args: argparse.Namespace) -> Config:
    """The configuration that the arguments of ``serve`` ask for."""
    options = {field.name: getattr(args, field.name) for field in fields(Config)}
    if args.cache_dir is not None:
        options["cache_dir"] = cache_dir(args.cache_dir)
    if args.cache_disk_limit_bytes is None:
        del options["cache_disk_limit_bytes"]
    return Config(**options)


def cache_dir(text: str) -> str:
    """The cache directory as an absolute path; the user's default for ""."""
    if not text:
        from platformdirs import user_cache_path

        return str(user_cache_path("mlx-sidecar") / "prefixes")
    return str(Path(text).expanduser().absolute())


def refuse_ignored(parser: Parser, args: argparse.Namespace) -> None:
    """Exit with a usage error if an option would be ignored beside the others."""
    for name in ("cache_dir", "cache_limit_bytes", "cache_disk_limit_bytes"):
        # A default from the environment is for sidecars with a cache; only an option on the command line asks for one.
        if args.engine == "fake" and getattr(args, name) not in (None, parser.get_default(name)):
            parser.error(f"argument --{name.replace('_', '-')}: the fake engine caches nothing")
    for name in ("threads", "activations", "kv_cache_dtype"):
        if args.engine == "fake" and getattr(args, name) != parser.get_default(name):
            parser.error(f"argument --{name.replace('_', '-')}: the fake engine computes nothing")
    if args.cache_dir is not None and args.cache_limit_bytes == 0:
        parser.error("argument --cache-dir: what is on disk is read into memory; --cache-limit-bytes is 0")
    if args.cache_disk_limit_bytes is not None and args.cache_dir is None:
        parser.error("argument --cache-disk-limit-bytes: nothing is cached on disk without --cache-dir")
