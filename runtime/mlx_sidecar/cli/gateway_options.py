"""The options of the command ``gateway``."""

from __future__ import annotations

import argparse

from .argument_types import loop_tokens, not_negative, not_negative_seconds, origin, positive, seconds
from .model_arguments import add_sidecar_options
from .parser import Parser


def add_options(parser: Parser) -> None:
    """Define all options of ``gateway``."""
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
