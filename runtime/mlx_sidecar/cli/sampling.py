"""The parameters of ``generate`` as options of the command line."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from typing import Any

from .argument_types import finite, integer, seconds
from .parser import Parser
from .standard_streams import text_of

_NUMBERS = (
    ("--max-tokens", integer, "stop after this many tokens (default: as many as the model's context leaves)"),
    ("--temperature", finite, "0 takes the likeliest token each time (default: 0)"),
    ("--top-p", finite, "sample from the smallest set of tokens with this probability mass"),
    ("--top-k", integer, "sample from this many likeliest tokens"),
    ("--min-p", finite, "drop tokens below this share of the likeliest one's probability"),
    ("--repetition-penalty", finite, "divide the logits of tokens that are there already by this"),
    ("--presence-penalty", finite, "subtract this from the logit of a token that is there already"),
    ("--frequency-penalty", finite, "subtract this for each time that a token is there already"),
    ("--reasoning-budget", integer, "of a chat: end the reasoning after this many tokens"),
    ("--repeat-guard", integer, "end an answer of which so many tokens are a loop, repeated three times or more"),
    ("--seed", integer, "the same seed gives the same tokens"),
    ("--deadline-s", seconds, "end after this many seconds with the text so far"),
)
_LISTS: tuple[tuple[str, Callable[[str], Any], str, str], ...] = (
    ("--stop", text_of, "TEXT", "end before this text; may be given several times"),
    ("--stop-tokens", integer, "TOKEN", "end at this token id; may be given several times"),
)
_SWITCHES = (
    ("--ignore-eos", "go on where the model would end its turn"),
    ("--escape-special", "keep the text from becoming control tokens"),
)


def _bias(text: str) -> tuple[str, float]:
    token, equals, bias = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not TOKEN=N")
    return str(integer(token)), finite(bias)


def _speculation(text: str) -> Any:
    known = {"ngram": {"ngram": True}, "off": False}
    if text not in known:
        raise argparse.ArgumentTypeError(f"{text!r} is neither ngram nor off")
    return known[text]


def _template_argument(text: str) -> tuple[str, Any]:
    """``NAME=VALUE``, where the value is JSON, or else a text."""
    name, equals, value = text_of(text).partition("=")
    if not (name and equals):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name, json_value(value)


def json_value(text: str) -> Any:
    """The value of ``text`` as JSON, whose numbers are finite; ``text`` itself where it is none."""
    try:
        return json.loads(text, parse_float=finite, parse_constant=finite)
    except (ValueError, RecursionError, argparse.ArgumentTypeError):
        return text


def add_sampling(parser: Parser) -> None:
    """Define an option for each parameter of ``generate`` that says how to continue a text."""
    group = parser.add_argument_group("sampling")
    for flag, kind, help_ in _NUMBERS:
        group.add_argument(flag, type=kind, metavar="N", help=help_)
    for flag, kind_of_one, metavar, help_ in _LISTS:
        group.add_argument(flag, type=kind_of_one, action="append", metavar=metavar, help=help_)
    for flag, help_ in _SWITCHES:
        group.add_argument(flag, action="store_true", default=None, help=help_)
    group.add_argument(
        "--show-special",
        dest="skip_special",
        action="store_false",
        default=None,
        help="leave special tokens in the text",
    )
    group.add_argument(
        "--logit-bias", type=_bias, action="append", metavar="TOKEN=N", help="add this to the logit of a token id"
    )
    group.add_argument(
        "--template-arg",
        dest="template_args",
        type=_template_argument,
        action="append",
        metavar="NAME=VALUE",
        help="an argument of the model's chat template, such as enable_thinking=false",
    )
    group.add_argument(
        "--speculation",
        type=_speculation,
        metavar="ngram|off",
        help="have tokens proposed from the text so far, or not; the answer is the same",
    )
    group.add_argument("--priority", choices=["critical", "high", "normal", "low"], help="(default: normal)")


NAMES = (
    *(flag.removeprefix("--").replace("-", "_") for table in (_NUMBERS, _SWITCHES) for flag, *_ in table),
    *("stop", "stop_tokens", "skip_special", "logit_bias", "template_args", "speculation", "priority"),
)
"""The parameters of ``generate`` that can be given."""

LISTS = tuple(flag.removeprefix("--").replace("-", "_") for flag, *_ in _LISTS)
"""Those of them that are lists, of which one element may stand for itself."""


def sampling(args: argparse.Namespace) -> dict[str, Any]:
    """The parameters of ``generate`` that were given on the command line, named as in the contract."""
    given = {name: value for name in NAMES if (value := getattr(args, name)) is not None}
    return given | {name: dict(given[name]) for name in ("logit_bias", "template_args") if name in given}
