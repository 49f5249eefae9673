"""Defines commands, options, types and help of the command line. Imports nothing heavy."""

from __future__ import annotations

import argparse
import os
import stat
from math import isfinite
from pathlib import Path
from typing import TypeAlias

from mlx_sidecar_protocol.limits import Limits

from . import __version__
from .config import Config

_EXAMPLES = """\
examples:
  mlx-sidecar chat                        talk to the embedded pocket model
  mlx-sidecar chat mlx-community/Qwen3-4B-4bit
                                          download it from the hub on first use, then talk to it
  mlx-sidecar generate pocket "Hello"     one answer, then exit
  echo '{"jsonrpc":"2.0","id":1,"method":"generate","params":{"model":"pocket","prompt":"Hello"}}' \\
    | mlx-sidecar serve                   the engine itself: JSON-RPC on stdin and stdout
  mlx-sidecar doctor                      what a bug report should hold
"""

_SERVE = """\
Speaks JSON-RPC 2.0 on stdin and stdout until stdin ends, the parent process ends, or a host sends shutdown and exit.
Framing is found from the first bytes: Content-Length headers as in LSP, or one JSON text per line.
Logs go to stderr, and as log notifications to a host that has sent initialize.
"""


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not positive")
    return number


def _not_negative(text: str) -> int:
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"{text} is negative")
    return number


def _seconds(text: str) -> float:
    number = float(text)
    if not (isfinite(number) and number > 0):
        raise argparse.ArgumentTypeError(f"{text} is not a positive number of seconds")
    return number


def _nesting(text: str) -> int:
    limit = _positive(text)
    try:
        Limits(nesting=limit)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return limit


def _finite(text: str) -> float:
    number = float(text)
    if not isfinite(number):
        raise argparse.ArgumentTypeError(f"{text} is no number that JSON knows")
    return number


def _new_file(text: str) -> str:
    """Create or empty the file at ``text``, for its owner alone to read; returns its absolute path."""
    path = Path(text).absolute()
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            if stat.S_ISREG(os.fstat(fd).st_mode):
                os.fchmod(fd, 0o600)
        finally:
            os.close(fd)
    except OSError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return str(path)


_Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"

_SAMPLING = (
    ("--max-tokens", int, "stop after this many tokens"),
    ("--temperature", _finite, "0 takes the likeliest token each time"),
    ("--top-p", _finite, "sample from the smallest set of tokens with this probability mass"),
    ("--top-k", int, "sample from this many likeliest tokens"),
    ("--min-p", _finite, "drop tokens below this share of the likeliest one's probability"),
    ("--seed", int, "the same seed gives the same tokens"),
)


def command_line() -> argparse.ArgumentParser:
    """The parser of all commands and their options."""
    parser = argparse.ArgumentParser(
        prog="mlx-sidecar",
        description="A language-model engine that any program can spawn.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"mlx-sidecar {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    _add_serve(commands)
    _add_chat(commands)
    _add_generate(commands)
    doctor = commands.add_parser(
        "doctor", help="backend, device, memory, versions and a self-test, to be pasted into a bug report"
    )
    _add_engine_options(doctor)
    return parser


def _add_serve(commands: _Commands) -> None:
    serve = commands.add_parser(
        "serve",
        help="the engine: JSON-RPC on stdin and stdout",
        description=_SERVE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
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
        "--frame-limit-bytes", type=_positive, default=Config.frame_limit_bytes, help="longest message taken"
    )
    serve.add_argument("--batch-limit", type=_positive, default=Config.batch_limit, help="longest JSON-RPC batch taken")
    serve.add_argument("--nesting-limit", type=_nesting, default=Config.nesting_limit, help="deepest JSON taken")
    serve.add_argument(
        "--values-limit", type=_positive, default=Config.values_limit, help="most values (ids, strings …) in a message"
    )
    serve.add_argument(
        "--requests-limit-bytes",
        type=_positive,
        default=Config.requests_limit_bytes,
        help="for requests that are being worked on; more are refused as overloaded",
    )
    serve.add_argument(
        "--answers-limit-bytes",
        type=_positive,
        default=Config.answers_limit_bytes,
        help="for answers that the host has not read; beyond it nothing is read",
    )
    serve.add_argument(
        "--journal-limit-bytes",
        type=_positive,
        default=Config.journal_limit_bytes,
        help="for what is remembered of open requests, so that they outlive the engine: 4 bytes a token",
    )
    _add_cache_options(serve)
    serve.add_argument(
        "--stall-after-s",
        type=_seconds,
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
        type=_new_file,
        metavar="FILE",
        help="write a time line of device operations and requests, for Perfetto or chrome://tracing",
    )
    _add_engine_options(serve)


def _add_cache_options(serve: argparse.ArgumentParser) -> None:
    serve.add_argument(
        "--cache-limit-bytes",
        type=_not_negative,
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
        type=_positive,
        help="for what is cached on disk (default: 16 GiB)",
    )


def _add_chat(commands: _Commands) -> None:
    chat = commands.add_parser(
        "chat",
        help="talk to a model in the terminal",
        description="Streams answers. Ctrl-C ends the answer that runs; Ctrl-D or an empty Ctrl-C ends the program.",
    )
    chat.add_argument("model", nargs="?", default="pocket", metavar="MODEL", help="directory, hub id, or pocket")
    chat.add_argument("--system", help="a system message to begin with")
    _add_sampling(chat)


def _add_generate(commands: _Commands) -> None:
    generate = commands.add_parser("generate", help="one answer, then exit")
    generate.add_argument("model", metavar="MODEL", help="directory, hub id, or pocket")
    generate.add_argument("prompt", nargs="?", default="-", metavar="PROMPT", help="the text; - or nothing reads stdin")
    generate.add_argument("--chat", action="store_true", help="send the text as a user's message, through the template")
    _add_sampling(generate)


def _add_sampling(command: argparse.ArgumentParser) -> None:
    for flag, kind, help_ in _SAMPLING:
        command.add_argument(flag, type=kind, help=help_)
    _add_engine_options(command)


def _add_engine_options(parser: argparse.ArgumentParser) -> None:
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
        "--memory-limit-bytes",
        type=_positive,
        help="for weights and caches; the machine or a cgroup may have less (default: what these and the device allow)",
    )


def engine_options(args: argparse.Namespace) -> list[str]:
    """The options of ``serve`` that a command passes on to the sidecar it spawns."""
    options = ["--engine", args.engine, "--numerics", args.numerics]
    if args.memory_limit_bytes is not None:
        options += ["--memory-limit-bytes", str(args.memory_limit_bytes)]
    return options


def sampling(args: argparse.Namespace) -> dict[str, object]:
    """The parameters of ``generate`` that were given on the command line."""
    names = [flag.removeprefix("--").replace("-", "_") for flag, _, _ in _SAMPLING]
    return {name: value for name in names if (value := getattr(args, name)) is not None}


def refuse_ignored(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Exit with a usage error if an option would be ignored beside the others."""
    for name in ("cache_dir", "cache_limit_bytes", "cache_disk_limit_bytes"):
        if args.engine == "fake" and getattr(args, name) is not None:
            parser.error(f"argument --{name.replace('_', '-')}: the fake engine caches nothing")
    if args.cache_dir is not None and args.cache_limit_bytes == 0:
        parser.error("argument --cache-dir: what is on disk is read into memory; --cache-limit-bytes is 0")
    if args.cache_disk_limit_bytes is not None and args.cache_dir is None:
        parser.error("argument --cache-disk-limit-bytes: nothing is cached on disk without --cache-dir")
