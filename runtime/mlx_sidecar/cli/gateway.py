"""The command ``gateway``: an HTTP server over a sidecar of its own, in a package that is a host like any other."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from .failures import USAGE, Refused
from .gateway_defaults import defaults_of
from .gateway_options import add_options
from .model_arguments import sidecar_options
from .parser import Parser
from .standard_streams import text_of

if TYPE_CHECKING:
    from mlx_sidecar_gateway.core.keys import Key
    from mlx_sidecar_gateway.observability.objective_words import Objective
    from mlx_sidecar_gateway.observability.request_log import LogSettings
    from mlx_sidecar_gateway.providers.table import Table
    from mlx_sidecar_gateway.surfaces.surface import Offer

_DESCRIPTION = """\
Serves OpenAI's, Anthropic's and Ollama's HTTP interfaces over a sidecar that it spawns, until SIGTERM or Ctrl-C.
Clients change their base URL to http://127.0.0.1:8080, OpenAI's to http://127.0.0.1:8080/v1, and nothing else.
docs/gateway.md has the rest.
"""
_PACKAGES = (
    "mlx_sidecar_client",
    "mlx_sidecar_gateway",
    "httptools",
    "orjson",
    "prometheus_client",
    "starlette",
    "uvicorn",
    "uvloop",
)
_OTEL_PACKAGES = ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http")
_PACKAGES_OF_PROVIDERS = ("httpx2", "pydantic", "yaml")


def add_arguments(parser: Parser) -> None:
    """Define the options of ``gateway``."""
    parser.description, parser.formatter_class = _DESCRIPTION, argparse.RawDescriptionHelpFormatter
    parser.set_defaults(run=run)
    add_options(parser)


def run(args: argparse.Namespace) -> int:
    """Serve until a signal comes; returns the exit status."""
    _refuse_missing("the gateway", _PACKAGES, "gateway")
    if args.otel:
        _refuse_missing("--otel", _OTEL_PACKAGES, "gateway,otel")
    from mlx_sidecar_gateway.server import CannotStart, serve
    from mlx_sidecar_gateway.settings import Settings

    settings = Settings(
        listen=text_of(args.listen),
        models=tuple(_offers(args.models, args.adapters)),
        # -P: modules are not searched for in the working directory.
        command=(sys.executable, "-P", "-m", "mlx_sidecar"),
        options=tuple(sidecar_options(args)),
        ping_s=args.ping_s,
        drain_delay_s=args.drain_delay_s,
        drain_timeout_s=args.drain_timeout_s,
        body_limit_bytes=args.body_limit_bytes,
        body_timeout_s=args.body_timeout_s,
        header_timeout_s=args.header_timeout_s,
        keep_alive_s=args.keep_alive_s,
        connection_limit=args.connection_limit,
        keys={} if args.keys is None else _keys(args.keys),
        hosts=tuple(args.hosts),
        origins=tuple(args.origins),
        otel=args.otel,
        strict=args.strict,
        request_log=_request_log(args),
        objectives=_objectives(args.objectives),
        providers=None if args.providers is None else _table(args.providers),
        repeat_guard=args.repeat_guard,
        defaults=defaults_of(args.defaults),
    )
    try:
        return serve(settings)
    except CannotStart as error:
        raise Refused(str(error)) from error


def _refuse_missing(what: str, packages: Sequence[str], extras: str) -> None:
    missing = [name for name in packages if not _is_there(name)]
    if missing:
        raise Refused(
            f"{what} needs what is not installed here ({', '.join(missing)}): "
            f"pip install 'CHECKOUT[{extras}]' CHECKOUT/clients/python; docs/install.md says more"
        )


def _is_there(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # a package that it would be in is not there
        return False


def _offers(models: Sequence[str], adapters: Sequence[str]) -> list[Offer]:
    offers = [_offer(text_of(text)) for text in models]
    return [*offers, *(_adapted(text_of(text), offers) for text in adapters)]


def _adapted(text: str, offers: Sequence[Offer]) -> Offer:
    """``NAME:ADAPTER=DIR``; a model's own name may have colons."""
    whole, separator, path = text.partition("=")
    name, colon, adapter = whole.rpartition(":")
    if not (separator and path and colon and name and adapter):
        raise Refused(f"--adapter {text}: is not NAME:ADAPTER=DIR")
    for offer in offers:
        if offer.name == name:
            return replace(offer, name=whole, adapter=adapter, adapter_path=path)
    raise Refused(f"--adapter {text}: no --model has the name {name!r}")


def _offer(text: str) -> Offer:
    """``NAME=MODEL`` or ``MODEL``; a name has neither ``/`` nor ``?``, because those are in models that have ``=``."""
    from mlx_sidecar_gateway.surfaces.surface import Offer

    name, separator, model = text.partition("=")
    return Offer(name, model) if separator and model and not {"/", "?"} & set(name) else Offer(text, text)


def _request_log(args: argparse.Namespace) -> LogSettings | None:
    from mlx_sidecar_gateway.observability.request_log import LogSettings

    of_log = {"limit_bytes": args.request_log_bytes, "older": args.request_log_files}
    given = {name: value for name, value in of_log.items() if value is not None}
    if args.request_log is None:
        if given or args.log_prompts:
            raise Refused("--log-prompts, --request-log-bytes and --request-log-files need --request-log", USAGE)
        return None
    return LogSettings(file=Path(args.request_log), with_bodies=args.log_prompts, **given)


def _objectives(texts: list[str]) -> tuple[Objective, ...]:
    from mlx_sidecar_gateway.observability.objective_words import read_objectives

    try:
        return read_objectives(texts)
    except ValueError as error:
        raise Refused(f"--objective {error}", USAGE) from error


def _table(file: str) -> Table:
    missing = [name for name in _PACKAGES_OF_PROVIDERS if find_spec(name) is None]
    if missing:
        raise Refused(f"--providers needs what is not installed here ({', '.join(missing)})")
    from mlx_sidecar_gateway.providers.table_file import read_table

    try:
        return read_table(Path(file).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise Refused(f"--providers {file}: {error}") from error


def _keys(file: str) -> dict[str, Key]:
    from mlx_sidecar_gateway.core.keys import read_keys

    try:
        return read_keys(Path(file).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise Refused(f"--keys {file}: {error}") from error
