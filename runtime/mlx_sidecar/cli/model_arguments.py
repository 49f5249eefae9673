"""Which model, and how it is loaded: arguments of all commands that run one."""

from __future__ import annotations

import argparse
from typing import Any

from .parser import Parser
from .serve import add_engine_options, cache_dir, engine_options
from .standard_streams import text_of


def add_model_options(parser: Parser) -> None:
    """Define the options of ``load``, and those of the sidecar that loads."""
    group = parser.add_argument_group("model")
    group.add_argument(
        "--import",
        dest="import_gguf",
        action="store_true",
        help="make a model directory of a GGUF file in the user's cache, once, and run that; what cannot be "
        "moved without loss is quantised again",
    )
    group.add_argument("--revision", metavar="NAME", help="a branch, tag or commit of a hub model")
    group.add_argument("--adapter", metavar="DIR", help="a LoRA adapter to load the model with")
    group.add_argument("--dtype", choices=["float32", "float16", "bfloat16"], help="number format of the weights")
    add_sidecar_options(parser, group)


def add_sidecar_options(parser: argparse._ActionsContainer, group: argparse._ActionsContainer | None = None) -> None:
    """Define the options of the ``serve`` that a command spawns: what ``sidecar_options`` passes on."""
    group = group or parser
    group.add_argument("--trust-remote-code", action="store_true", help="run the Python code that the model brings")
    group.add_argument(
        "--cache-dir",
        nargs="?",
        const="",
        metavar="DIR",
        help="cache prompts on disk; without DIR in the user's cache directory",
    )
    add_engine_options(parser)


def load_params(args: argparse.Namespace, model: str | None = None) -> dict[str, Any]:
    """The parameters of ``load`` for the model of the command line, or for another one in its place.

    With ``--import`` a GGUF file is imported first. Raises ``Refused`` where it cannot be.
    """
    names = ("revision", "adapter", "dtype")
    how = {name: text_of(value) for name in names if (value := getattr(args, name)) is not None}
    name = text_of(args.model) if model is None else model
    if getattr(args, "import_gguf", False):
        from .gguf import imported

        name = imported(name)
    return {"model": name, **how}


def sidecar_options(args: argparse.Namespace) -> list[str]:
    """The options of the ``serve`` that a command spawns."""
    options = engine_options(args)
    if args.trust_remote_code:
        options.append("--trust-remote-code")
    if args.cache_dir is not None:
        options += ["--cache-dir", cache_dir(args.cache_dir)]
    return options
