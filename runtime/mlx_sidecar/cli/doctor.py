"""The command ``doctor``: facts for a bug report, after a self-test with a running sidecar."""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import sys
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from .. import __version__
from ..host import Host, SidecarError, SidecarGone
from .failures import status_of
from .model_arguments import add_model_options, load_params, sidecar_options
from .parser import Parser
from .terminal_text import say

_PACKAGES = ("mlx", "mlx-lm", "jsonrpcserver", "pydantic", "tokenizers", "jinja2", "huggingface_hub", "transformers")
_QUESTION = {"model": "pocket", "messages": [{"role": "user", "content": "What is mlx-sidecar?"}], "max_tokens": 48}


def add_arguments(parser: Parser) -> None:
    """Define the options of ``doctor``."""
    parser.description = (
        "Facts for a bug report, after a self-test with the embedded model. With MODEL that one is tried too, step by "
        "step, and the report says at which it fails and why."
    )
    parser.set_defaults(run=run)
    parser.add_argument("model", nargs="?", metavar="MODEL", help="directory or hub id of a model to be tried")
    add_model_options(parser)


def run(args: argparse.Namespace) -> int:
    """Print the report; returns 0 if all that was tried works, 1 if the self-test failed, else the model's status."""
    options = sidecar_options(args)
    say(f"mlx-sidecar {__version__} · {' '.join(options)}")
    _print(_machine())
    try:
        with Host(*options) as host:
            card = host.call("load", {"model": "pocket"})
            result = host.call("generate", _QUESTION)
            if "error" in result:
                raise SidecarError(result["error"])
            _print(_engine(host.call("stats"), card, result))
            return 0 if args.model is None else _try(host, load_params(args))
    except (SidecarError, SidecarGone) as error:
        _print([("self-test", f"FAILED: {error}")])
        return 1


def _try(host: Host, how: dict[str, Any]) -> int:
    from .model_trial import rows

    try:
        _print(rows(host, how))
    except (SidecarError, SidecarGone) as error:
        _print([("model", f"FAILED: {error}")])
        return status_of(error)
    _print([("model", "works")])
    return 0


def _print(rows: Iterable[tuple[str, str]]) -> None:
    for name, value in rows:
        say(f"{name:>14}  {value}")


def _machine() -> list[tuple[str, str]]:
    import psutil

    memory = psutil.virtual_memory()
    rows = [
        ("system", f"{platform.platform()} {platform.machine()}, {os.cpu_count()} cores, {_gib(memory.total)}"),
        ("free memory", _gib(memory.available)),
        ("python", f"{platform.python_version()} {sys.implementation.name}"),
        ("compiler", shutil.which("g++") or shutil.which("clang++") or "none: mlx runs its kernels uncompiled"),
    ]
    return rows + [(name, _version(name)) for name in _PACKAGES]


def _engine(stats: dict[str, Any], card: dict[str, Any], result: dict[str, Any]) -> list[tuple[str, str]]:
    engine, memory, timing = stats["engine"], stats["memory"], result["timing"]
    took_s = timing.get("first_token_s", 0.0) + timing.get("decode_s", 0.0)
    return [
        ("backend", f"{engine['backend']} on {engine['device']}"),
        ("arithmetic", f"{engine['policy']} ({engine['numerics']})"),
        ("memory limit", _gib(memory["limit_bytes"])),
        ("front", f"{memory['front_bytes'] / 2**20:.0f} MiB"),
        ("engine", f"{memory['engine_bytes'] / 2**20:.0f} MiB"),
        ("self-test", f"pocket loaded in {card['load_s']:.3f} s, {card['dtype']}, {card['policy']}"),
        ("", f"answered in {took_s:.3f} s: {result['text']!r}"),
    ]


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"
