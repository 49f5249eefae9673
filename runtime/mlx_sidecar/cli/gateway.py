"""The command ``gateway``: an HTTP server over a sidecar of its own, in a package that is a host like any other."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from .argument_types import loop_tokens, not_negative, not_negative_seconds, origin, positive, seconds
from .failures import USAGE, Refused
from .gateway_defaults import defaults_of
from .model_arguments import add_sidecar_options, sidecar_options
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
    parser.add_argument(
        "--listen",
        default="127.0.0.1:8080",
        metavar="HOST:PORT",
        help="or unix:PATH; an address that others reach needs --keys (default: 127.0.0.1:8080)",
    )
    parser.add_argument(
        "--model",
        dest="models",
        action="append",
        default=[],
        metavar="[NAME=]MODEL",
        help="load this model, and let clients name only such (repeatable); the first is the default. Without it"
        " clients may name any model on this machine",
    )
    parser.add_argument(
        "--adapter",
        dest="adapters",
        action="append",
        default=[],
        metavar="NAME:ADAPTER=DIR",
        help="let clients name the model NAME with this low-rank adapter, as NAME:ADAPTER (repeatable)",
    )
    parser.add_argument(
        "--providers",
        metavar="FILE",
        help="also offer models of further sidecars and of other servers, each with its fallbacks: a YAML table"
        " (docs/providers.md)",
    )
    parser.add_argument(
        "--repeat-guard",
        type=loop_tokens,
        metavar="N",
        help="end an answer of which so many tokens are a loop (3 to 4096), unless its request says another number",
    )
    parser.add_argument(
        "--default",
        dest="defaults",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a parameter of answers whose requests do not name it, such as temperature=0, max_tokens=500 or"
        " stop=TEXT (repeatable; docs/gateway.md)",
    )
    parser.add_argument("--strict", action="store_true", help="refuse parameters that would change nothing")
    parser.add_argument(
        "--ping-s", type=seconds, default=1.0, metavar="S", help="longest silence of a streamed answer (default: 1)"
    )
    parser.add_argument(
        "--otel",
        action="store_true",
        help="send spans of requests, and the metrics, to a collector of OpenTelemetry, which"
        " OTEL_EXPORTER_OTLP_ENDPOINT names (http://localhost:4318)",
    )
    _add_access_options(parser.add_argument_group("who may ask"))
    _add_limits(parser.add_argument_group("limits"))
    _add_observation_options(parser.add_argument_group("what is told of requests"))
    _add_end_options(parser.add_argument_group("the end"))
    add_sidecar_options(parser.add_argument_group("the sidecar"))


def _add_access_options(group: argparse._ActionsContainer) -> None:
    group.add_argument(
        "--keys",
        metavar="FILE",
        help="ask for one of these keys: on each line a name, a key, and if wanted its limits (docs/gateway.md)",
    )
    group.add_argument(
        "--allow-host",
        dest="hosts",
        action="append",
        default=[],
        metavar="NAME",
        help="take requests for this Host, too (repeatable)",
    )
    group.add_argument(
        "--allow-origin",
        dest="origins",
        type=origin,
        action="append",
        default=[],
        metavar="ORIGIN",
        help="let web pages of this origin ask, such as https://example.org (repeatable)",
    )


def _add_limits(group: argparse._ActionsContainer) -> None:
    group.add_argument(
        "--connection-limit",
        type=positive,
        default=1000,
        metavar="N",
        help="most connections; requests on more are refused (default: 1000)",
    )
    group.add_argument(
        "--header-timeout-s",
        type=seconds,
        default=10.0,
        metavar="S",
        help="longest time that the headers of a request may take to come (default: 10)",
    )
    group.add_argument(
        "--body-timeout-s",
        type=seconds,
        default=30.0,
        metavar="S",
        help="longest time that a body may take to come (default: 30)",
    )
    group.add_argument(
        "--body-limit-bytes",
        type=positive,
        default=16 * 2**20,
        metavar="N",
        help="longest body of a request (default: 16 MiB)",
    )
    group.add_argument(
        "--keep-alive-s",
        type=seconds,
        default=5.0,
        metavar="S",
        help="how long a connection is kept between two requests (default: 5)",
    )


def _add_observation_options(group: argparse._ActionsContainer) -> None:
    group.add_argument(
        "--request-log",
        metavar="FILE",
        help="write a line of JSON for each request, without its text; mlx-sidecar log FILE reads them",
    )
    group.add_argument(
        "--log-prompts", action="store_true", help="write the bodies of requests into the request log, too"
    )
    group.add_argument(
        "--request-log-bytes",
        type=positive,
        metavar="N",
        help="size at which the request log becomes FILE.1, and another is begun (default: 32 MiB)",
    )
    group.add_argument(
        "--request-log-files", type=not_negative, metavar="N", help="how many such parts are kept (default: 4)"
    )
    group.add_argument(
        "--objective",
        dest="objectives",
        action="append",
        default=[],
        metavar="PRIORITY:WORDS",
        help="how soon requests of a priority are to be answered, such as high:first_token=0.5,gap=0.2,target=0.99"
        " (repeatable); action=lower-admission or action=raise-priority says what is done while they are not"
        " (docs/observability.md)",
    )


def _add_end_options(group: argparse._ActionsContainer) -> None:
    group.add_argument(
        "--drain-delay-s",
        type=not_negative_seconds,
        default=0.0,
        metavar="S",
        help="from SIGTERM, when /health/ready turns 503, until no connection is taken (default: 0)",
    )
    group.add_argument(
        "--drain-timeout-s",
        type=not_negative_seconds,
        default=30.0,
        metavar="S",
        help="from then until answers that still run end with an error (default: 30)",
    )


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
