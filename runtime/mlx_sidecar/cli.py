"""Runs the commands of the command line. Imports nothing heavy, because ``serve`` must claim stdio first."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from .arguments import command_line, engine_options, refuse_ignored, sampling
from .config import Config
from .standard_streams import cannot, is_shortage, text_of, tolerate_locale

_INTERRUPTED = 130  # the exit status that shells give a command ended by Ctrl-C


def main(argv: Sequence[str] | None = None) -> None:
    """Run one command and exit with its status."""
    tolerate_locale()
    parser = command_line()
    args = parser.parse_args(argv)
    try:
        if args.command == "serve":
            _serve(parser, args)
        status = _as_a_host(args)
        sys.stdout.flush()  # here, where a failure can still be reported
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)
    except Exception as error:
        if is_shortage(error):
            cannot(error)
        raise
    sys.exit(status)


def _serve(parser: argparse.ArgumentParser, args: argparse.Namespace) -> NoReturn:
    from .front.serve import serve

    refuse_ignored(parser, args)
    serve(_config(args))


def _config(args: argparse.Namespace) -> Config:
    """The configuration that the arguments of ``serve`` ask for."""
    options = {name: value for name, value in vars(args).items() if name != "command"}
    if args.cache_dir is not None:
        options["cache_dir"] = _cache_dir(args.cache_dir)
    if args.cache_disk_limit_bytes is None:
        del options["cache_disk_limit_bytes"]
    return Config(**options)


def _cache_dir(text: str) -> str:
    """The cache directory as an absolute path; the user's default for ""."""
    if not text:
        from platformdirs import user_cache_path

        return str(user_cache_path("mlx-sidecar") / "prefixes")
    return str(Path(text).expanduser().absolute())


def _as_a_host(args: argparse.Namespace) -> int:
    """Run a command that spawns its own sidecar; returns the exit status."""
    from . import terminal

    if args.command == "chat":
        system = None if args.system is None else text_of(args.system)
        return terminal.chat(text_of(args.model), system, sampling(args), engine_options(args))
    if args.command == "generate":
        prompt = sys.stdin.read() if args.prompt == "-" else text_of(args.prompt)
        return terminal.generate(text_of(args.model), prompt, args.chat, sampling(args), engine_options(args))
    from . import doctor

    return doctor.run(engine_options(args))
